//! Writes the numbers of the running kernel's own functions into the object before it is loaded: aya knows
//! of helpers only. `firewall_common::abi::kfunc` says which placeholders there are.

use super::DatapathError;
use aya::Btf;
use aya_obj::btf::BtfKind;
use firewall_common::abi::kfunc::{SK_ASSIGN_TCP_REQSK, SKC_TO_MPTCP_SOCK};
use object::{Object as _, ObjectSection as _, SectionKind};

/// Length of an instruction, bytes.
const INSTRUCTION: usize = 8;
/// BPF_JMP | BPF_CALL.
const CALL: u8 = 0x85;
/// BPF_ALU64 | BPF_MOV | BPF_K, into register 0.
const MOVE: u8 = 0xb7;
/// BPF_PSEUDO_KFUNC_CALL as the source register.
const KFUNC: u8 = 2 << 4;

/// An object that this kernel can load.
pub struct Linked {
    /// Its bytes.
    pub object: Vec<u8>,
    /// Whether connections that SYN cookies made can be given to their listeners.
    pub cookies: bool,
}

/// Number of a function in the kernel's types, if it has one of that name.
fn number(btf: &Btf, name: &str) -> Option<i32> {
    let id = btf.id_by_type_name_kind(name, BtfKind::Func).ok()?;
    i32::try_from(id).ok()
}

fn assign() -> Option<i32> {
    Btf::from_sys_fs().ok().and_then(|btf| number(&btf, "bpf_sk_assign_tcp_reqsk"))
}

/// Whether the running kernel can give a listener the connection that a SYN cookie made.
pub(super) fn has_cookies() -> bool {
    assign().is_some()
}

/// Links an object to the running kernel.
///
/// # Errors
/// It isn't an ELF object.
pub fn link(object: &[u8]) -> Result<Linked, DatapathError> {
    link_to(object, assign())
}

fn link_to(object: &[u8], assign: Option<i32>) -> Result<Linked, DatapathError> {
    let file = object::File::parse(object).map_err(|e| DatapathError::Load(e.to_string()))?;
    let code: Vec<(u64, u64)> = file
        .sections()
        .filter(|section| section.kind() == SectionKind::Text)
        .filter_map(|section| section.file_range())
        .collect();
    let mut linked = object.to_vec();
    for (start, len) in code {
        let range = start as usize..(start + len) as usize;
        let Some(section) = linked.get_mut(range) else { continue };
        for instruction in section.chunks_exact_mut(INSTRUCTION) {
            rewrite(instruction, assign);
        }
    }
    Ok(Linked { object: linked, cookies: assign.is_some() })
}

/// Rewrites one instruction (`struct bpf_insn`: code, registers, offset, immediate), if it is a placeholder.
fn rewrite(instruction: &mut [u8], assign: Option<i32>) {
    let [CALL, 0, 0, 0, immediate @ ..] = &*instruction else { return };
    let Ok(immediate) = <[u8; 4]>::try_from(immediate) else { return };
    let (code, registers, value) = match (i32::from_le_bytes(immediate), assign) {
        (SK_ASSIGN_TCP_REQSK, Some(number)) => (CALL, KFUNC, number),
        (SK_ASSIGN_TCP_REQSK, None) => (MOVE, 0, -libc::EINVAL),
        (SKC_TO_MPTCP_SOCK, None) => (MOVE, 0, 0),
        _ => return,
    };
    instruction[0] = code;
    instruction[1] = registers;
    instruction[4..].copy_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_and_nothing_else_are_rewritten() {
        let call = |number: i32| {
            let [a, b, c, d] = number.to_le_bytes();
            [CALL, 0, 0, 0, a, b, c, d]
        };
        let after = |mut instruction: [u8; 8], assign| {
            rewrite(&mut instruction, assign);
            instruction
        };
        assert_eq!(after(call(SK_ASSIGN_TCP_REQSK), Some(7)), [0x85, 0x20, 0, 0, 7, 0, 0, 0]);
        assert_eq!(
            after(call(SK_ASSIGN_TCP_REQSK), None),
            [0xb7, 0, 0, 0, 0xea, 0xff, 0xff, 0xff],
            "r0 = -22"
        );
        assert_eq!(after(call(SKC_TO_MPTCP_SOCK), None), [0xb7, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(after(call(SKC_TO_MPTCP_SOCK), Some(7)), call(SKC_TO_MPTCP_SOCK));
        assert_eq!(after(call(1), None), call(1));
        let local = [CALL, 0x10, 0, 0, 196, 0, 0, 0];
        assert_eq!(after(local, None), local, "a call within the program");
    }

    #[test]
    fn what_is_no_object_is_refused() {
        assert!(matches!(link(b"nothing"), Err(DatapathError::Load(_))));
    }
}
