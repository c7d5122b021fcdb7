//! Where a process belongs, by the path of its cgroup: a unit of systemd's, a container, a pod of Kubernetes'.

use std::sync::Arc;

/// What a cgroup's path says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The path itself.
    pub path: Option<Arc<str>>,
    /// Service, scope or slice of systemd's; the innermost.
    pub unit: Option<Arc<str>>,
    /// Container: its id, or its name where there are only names.
    pub container: Option<Arc<str>>,
    /// Pod: its uid.
    pub pod: Option<Arc<str>>,
}

/// Endings of units that processes are in.
const UNITS: [&str; 4] = [".service", ".scope", ".socket", ".mount"];
/// What engines put before the id in a scope's name: Docker, containerd and CRI-O under Kubernetes, Podman.
const ENGINES: [&str; 5] = ["docker-", "cri-containerd-", "crio-", "libpod-", "nerdctl-"];

/// Reads a path such as `/system.slice/nginx.service` or `/docker/<id>`.
pub fn place(path: &str) -> Place {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let unit = parts
        .iter()
        .rev()
        .find(|part| UNITS.iter().any(|ending| part.ends_with(ending)))
        .or_else(|| parts.iter().rev().find(|part| part.ends_with(".slice")));
    Place {
        path: Some(path.into()),
        unit: unit.map(|unit| (*unit).into()),
        container: parts.iter().rev().find_map(|part| container(part)),
        pod: parts.iter().rev().find_map(|part| pod(part)),
    }
}

/// Kubernetes names a pod's cgroup `pod<uid>`; under systemd `kubepods-<class>-pod<uid>.slice`, where `_` stands
/// for the uid's `-` (pkg/kubelet/cm/cgroup_manager_linux.go).
fn pod(part: &str) -> Option<Arc<str>> {
    let name = match part.strip_suffix(".slice") {
        Some(slice) => slice.strip_prefix("kubepods-")?.rsplit('-').next()?,
        None => part,
    };
    let uid = name.strip_prefix("pod")?.replace('_', "-");
    let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    (uid.len() >= 32 && hex(&uid)).then(|| uid.into())
}

fn container(part: &str) -> Option<Arc<str>> {
    let bare = part.strip_suffix(".scope").unwrap_or(part);
    let bare = ENGINES.iter().find_map(|engine| bare.strip_prefix(engine)).unwrap_or(bare);
    if bare.len() == 64 && bare.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Some(bare.into());
    }
    // LXC and systemd-nspawn have names.
    let name = bare
        .strip_prefix("lxc.payload.")
        .or_else(|| part.strip_suffix(".scope").and_then(|part| part.strip_prefix("machine-")));
    name.map(Arc::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_say_where() {
        let id = "0123456789abcdef".repeat(4);
        for (path, unit, container) in [
            ("/system.slice/nginx.service", Some("nginx.service"), None),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/foo.scope",
                Some("foo.scope"),
                None,
            ),
            ("/user.slice/user-1000.slice", Some("user-1000.slice"), None),
            ("/system.slice/docker-ID.scope", Some("docker-ID.scope"), Some("ID")),
            ("/docker/ID", None, Some("ID")),
            (
                "/kubepods.slice/kubepods-pod1.slice/cri-containerd-ID.scope",
                Some("cri-containerd-ID.scope"),
                Some("ID"),
            ),
            ("/kubepods/besteffort/pod1/ID", None, Some("ID")),
            ("/machine.slice/libpod-ID.scope/container", Some("libpod-ID.scope"), Some("ID")),
            ("/lxc.payload.web/init.scope", Some("init.scope"), Some("web")),
            ("/machine.slice/machine-deb.scope", Some("machine-deb.scope"), Some("deb")),
            ("/", None, None),
            ("/docker/short", None, None),
        ] {
            let found = place(&path.replace("ID", &id));
            let text = |text: Option<&str>| text.map(|text| text.replace("ID", &id).into());
            assert_eq!((found.unit, found.container), (text(unit), text(container)), "{path}");
        }
    }

    #[test]
    fn pods_are_known_by_their_uids() {
        let uid = "0a1b2c3d-0001-4002-8003-00000000000f";
        let under = uid.replace('-', "_");
        for (path, is) in [
            (
                format!(
                    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{under}.slice/cri-containerd-1.scope"
                ),
                true,
            ),
            (format!("/kubepods.slice/kubepods-pod{under}.slice"), true),
            (format!("/kubepods/besteffort/pod{uid}/1"), true),
            ("/podman.slice/pod1".to_owned(), false),
            ("/user.slice/podcast.scope".to_owned(), false),
        ] {
            assert_eq!(place(&path).pod.as_deref(), is.then_some(uid), "{path}");
        }
    }
}
