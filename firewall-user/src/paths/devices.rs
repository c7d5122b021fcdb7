//! Cards that carry packets past the kernel, or can: below a root that tests replace.

use super::facts::{Card, Rdma};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Drivers that give a card to a program (DPDK and its like).
const USERSPACE: [&str; 3] = ["vfio-pci", "uio_pci_generic", "igb_uio"];
/// PCI base class of network controllers (include/linux/pci_ids.h); InfiniBand is a subclass of it.
const NETWORK: &str = "0x02";
/// Cards that are listed.
const MOST: usize = 1024;

/// Network cards that are in a program's hands, or shared out; `sys` is /sys.
///
/// # Errors
/// There is a PCI bus and it can't be read.
pub fn cards(sys: &Path) -> io::Result<Vec<Card>> {
    let mut found = Vec::new();
    for dir in list(&sys.join("bus/pci/devices"))? {
        if !text(&dir.join("class")).starts_with(NETWORK) || found.len() >= MOST {
            continue;
        }
        let driver = target(&dir.join("driver")).unwrap_or_default();
        let functions = text(&dir.join("sriov_numvfs")).parse().unwrap_or_default();
        let mut virtuals = Vec::new();
        for number in 0..functions {
            let function = dir.join(format!("virtfn{number}"));
            let Some(address) = target(&function) else { break };
            virtuals.push((address, target(&function.join("driver")).unwrap_or_default()));
        }
        let interfaces = list(&dir.join("net")).unwrap_or_default();
        found.push(Card {
            address: name(&dir),
            userspace: USERSPACE.contains(&driver.as_str()),
            driver,
            functions,
            virtuals,
            physical: target(&dir.join("physfn")),
            interfaces: interfaces.iter().map(|path| name(path)).collect(),
        });
    }
    found.retain(|card| card.userspace || card.functions > 0);
    Ok(found)
}

/// RDMA devices; `sys` is /sys.
///
/// # Errors
/// There are some and they can't be read.
pub fn rdma(sys: &Path) -> io::Result<Vec<Rdma>> {
    let device = |dir: &PathBuf| {
        let ports = list(&dir.join("ports")).unwrap_or_default();
        let mut layers: Vec<String> =
            ports.iter().map(|port| text(&port.join("link_layer"))).collect();
        layers.retain(|layer| !layer.is_empty());
        layers.dedup();
        Rdma { name: name(dir), device: target(&dir.join("device")), layers }
    };
    Ok(list(&sys.join("class/infiniband"))?.iter().map(device).collect())
}

/// What is in a directory, sorted; nothing where there is none.
fn list(dir: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
        Ok(entries) => {
            let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
            found.sort_unstable();
            Ok(found)
        }
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The last part of what a link points to.
fn target(link: &Path) -> Option<String> {
    fs::read_link(link).ok().map(|path| name(&path))
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn cards_of_programs_and_virtual_functions_are_found() {
        let sys = std::env::temp_dir().join(format!("sluice-paths-sys-{}", std::process::id()));
        let bus = sys.join("bus/pci/devices");
        let drivers = sys.join("bus/pci/drivers");
        let card = |address: &str, class: &str, driver: &str| {
            let dir = bus.join(address);
            fs::create_dir_all(&dir).unwrap();
            fs::create_dir_all(drivers.join(driver)).unwrap();
            fs::write(dir.join("class"), format!("{class}\n")).unwrap();
            symlink(drivers.join(driver), dir.join("driver")).unwrap();
            dir
        };
        card("0000:03:00.0", "0x020000", "vfio-pci");
        card("0000:04:00.0", "0x030000", "vfio-pci");
        card("0000:05:00.0", "0x020000", "ixgbe");
        card("0000:06:10.0", "0x020000", "igb_uio");
        let parent = card("0000:06:00.0", "0x020000", "ice");
        fs::write(parent.join("sriov_numvfs"), "1\n").unwrap();
        fs::create_dir_all(parent.join("net/ens6")).unwrap();
        symlink(bus.join("0000:06:10.0"), parent.join("virtfn0")).unwrap();
        symlink(&parent, bus.join("0000:06:10.0/physfn")).unwrap();
        let port = sys.join("class/infiniband/mlx5_0/ports/1");
        fs::create_dir_all(&port).unwrap();
        fs::write(port.join("link_layer"), "Ethernet\n").unwrap();
        symlink(&parent, sys.join("class/infiniband/mlx5_0/device")).unwrap();

        let found = cards(&sys).unwrap();
        let seen: Vec<&str> = found.iter().map(|card| card.address.as_str()).collect();
        assert_eq!(seen, ["0000:03:00.0", "0000:06:00.0", "0000:06:10.0"], "no graphics, no ixgbe");
        assert!(found[0].userspace && found[2].userspace && !found[1].userspace);
        assert_eq!(found[1].virtuals, [("0000:06:10.0".to_owned(), "igb_uio".to_owned())]);
        assert_eq!((found[1].functions, &found[1].interfaces[..]), (1, &["ens6".to_owned()][..]));
        assert_eq!(found[2].physical.as_deref(), Some("0000:06:00.0"));
        let expected = Rdma {
            name: "mlx5_0".into(),
            device: Some("0000:06:00.0".into()),
            layers: vec!["Ethernet".into()],
        };
        assert_eq!(rdma(&sys).unwrap(), [expected]);
        fs::remove_dir_all(&sys).unwrap();
        assert_eq!((cards(&sys).unwrap(), rdma(&sys).unwrap()), (vec![], vec![]), "no such bus");
    }
}
