//! What only the processor itself can tell.

/// The twelve letters by which a hypervisor names itself. Ask only where the kernel has seen that
/// there is one; elsewhere the answer is noise.
#[cfg(target_arch = "x86_64")]
pub fn hypervisor_signature() -> Option<[u8; 12]> {
    /// First leaf of the range that is reserved for hypervisors.
    const LEAF: u32 = 0x4000_0000;
    let answer = std::arch::x86_64::__cpuid(LEAF);
    let mut name = [0; 12];
    for (slot, part) in name.chunks_exact_mut(4).zip([answer.ebx, answer.ecx, answer.edx]) {
        slot.copy_from_slice(&part.to_le_bytes());
    }
    Some(name)
}

/// The twelve letters by which a hypervisor names itself; only x86 has them.
#[cfg(not(target_arch = "x86_64"))]
pub fn hypervisor_signature() -> Option<[u8; 12]> {
    None
}
