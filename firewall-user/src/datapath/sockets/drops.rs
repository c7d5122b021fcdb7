//! What the stack dropped, by the kernel's own reasons; what TCP sent again and reset.

use super::{
    super::{DatapathError, error::chain},
    btf::Structures,
};
use aya::{
    Ebpf, Pod,
    maps::{MapData, PerCpuArray},
};
use firewall_common::abi::drops::{DROP_REASONS, DropCount, TcpTotals};

/// The kernel's enumeration of reasons, and what each of its names begins with.
const ENUMERATION: &str = "skb_drop_reason";
const PREFIX: &str = "SKB_DROP_REASON_";

/// The counters, with the names of reasons.
pub struct Drops {
    counts: PerCpuArray<MapData, DropCount>,
    tcp: PerCpuArray<MapData, TcpTotals>,
    names: Vec<String>,
}

/// A reading of them.
#[derive(Clone, Debug, Default)]
pub struct DropReading {
    /// Number of the reason, packets; those that there were any of.
    pub counts: Vec<(u32, DropCount)>,
    /// What TCP did on all sockets.
    pub tcp: TcpTotals,
}

impl Drops {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, DatapathError> {
        let counts = map(ebpf, "DROPS")?;
        let tcp = map(ebpf, "TCP_TOTALS")?;
        Ok(Self { counts, tcp, names: names() })
    }

    /// What each reason is called, by its number: as the kernel has it, in small letters.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// All counters.
    ///
    /// # Errors
    /// The kernel's.
    pub fn read(&self) -> Result<DropReading, DatapathError> {
        let mut reading = DropReading::default();
        for reason in 0..DROP_REASONS as u32 {
            let all = self.counts.get(&reason, 0).map_err(DatapathError::map("DROPS"))?;
            let sum = all.iter().fold(DropCount::default(), |sum, one| DropCount {
                packets: sum.packets + one.packets,
                known: sum.known + one.known,
            });
            if sum.packets > 0 {
                reading.counts.push((reason, sum));
            }
        }
        for one in self.tcp.get(&0, 0).map_err(DatapathError::map("TCP_TOTALS"))?.iter() {
            reading.tcp.retransmits += one.retransmits;
            reading.tcp.resets_sent += one.resets_sent;
            reading.tcp.resets_received += one.resets_received;
        }
        Ok(reading)
    }
}

fn map<V: Pod>(ebpf: &mut Ebpf, name: &str) -> Result<PerCpuArray<MapData, V>, DatapathError> {
    let map = ebpf
        .take_map(name)
        .ok_or_else(|| DatapathError::Load(format!("the object has no map {name}")))?;
    PerCpuArray::try_from(map).map_err(|error| DatapathError::Load(chain(&error)))
}

/// The kernel's number for what was still in a queue when its socket was closed; 0: it has none.
pub(super) fn queue_purge() -> u32 {
    names().iter().position(|name| name == "queue-purge").unwrap_or(0) as u32
}

/// Names of reasons by their numbers; none where the kernel doesn't tell.
fn names() -> Vec<String> {
    let mut names = vec![String::new(); DROP_REASONS];
    let all = Structures::of_kernel().and_then(|types| types.enumerators(ENUMERATION));
    for (number, name) in all.unwrap_or_default() {
        if let (Some(place), Some(word)) =
            (names.get_mut(number as usize), name.strip_prefix(PREFIX))
        {
            *place = word.to_lowercase().replace('_', "-");
        }
    }
    names
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_kernel_names_its_reasons() {
        let names = super::names();
        assert!(names.iter().any(|name| name == "no-socket"), "{names:?}");
        assert!(names.iter().any(|name| name == "tcp-csum"), "{names:?}");
    }
}
