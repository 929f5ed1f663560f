//! What seL4, Xen and KVM cost on the same emulated machine, and the table that shows ours beside them.
//!
//! The recorded figures: QEMU 10 TCG, `-icount shift=0,sleep=off`; seL4 16 release with its fast path on a Cortex-A53 (PMCCNTR_EL0,
//! the caller's stub included); Xen 4.20 with a Linux dom0, and KVM with kvmtool, on a Cortex-A57, with Debian 13's kernel as guest.

use super::rows::Row;
use std::fmt::Write;

/// A recorded figure and who it is from.
const RECORDED: &[(&str, f64, &str)] = &[
    ("ipc_call_reply_0", 631.0, "seL4"),
    ("ipc_call_reply_4", 673.0, "seL4"),
    ("ipc_call_reply_10", 2185.0, "seL4"),
    ("ipc_call_reply_64", 2725.0, "seL4"),
    ("ipc_call_reply_0_one_cap", 1572.0, "seL4"),
    ("ipc_call_reply_0_no_fpu", 519.0, "seL4"),
    ("ipc_call_reply_4_no_fpu", 561.0, "seL4"),
    ("ipc_call_reply_10_no_fpu", 2073.0, "seL4"),
    ("ipc_call_reply_0_one_cap_no_fpu", 1459.0, "seL4"),
    ("ipc_call_reply_0_active", 2108.0, "seL4"),
    ("ipc_call_reply_0_one_cap_active", 2321.0, "seL4"),
    ("signal_wait_round_trip", 2517.0, "seL4"),
    ("signal_no_waiter", 406.0, "seL4"),
    ("wait_signalled", 281.0, "seL4"),
    ("poll_empty", 266.0, "seL4"),
    ("yield_alone", 509.0, "seL4"),
    ("cnode_copy", 728.0, "seL4"),
    ("cnode_mint", 742.0, "seL4"),
    ("cnode_move", 643.0, "seL4"),
    ("cnode_delete", 663.0, "seL4"),
    ("cnode_revoke_none", 604.0, "seL4"),
    ("revoke_512_copies", 111_834.0, "seL4"),
    ("revoke_512_unmapped", 139_505.0, "seL4"),
    ("revoke_512_mapped", 192_241.0, "seL4"),
    ("revoke_2mib", 899.0, "seL4"),
    ("retype_4kib_fresh", 1140.0, "seL4"),
    ("retype_256x4kib_fresh", 111_288.0, "seL4"),
    ("retype_2mib_fresh", 197_360.0, "seL4"),
    ("retype_256x4kib_cleaning", 1_071_811.0, "seL4"),
    ("clean_2mib", 1_157_871.0, "seL4"),
    ("map_4kib", 591.0, "seL4"),
    ("unmap_4kib", 548.0, "seL4"),
    ("map_2mib", 586.0, "seL4"),
    ("unmap_2mib", 543.0, "seL4"),
    ("map_table", 541.0, "seL4"),
    ("unmap_table", 2520.0, "seL4"),
    ("map_511x4kib", 304_050.0, "seL4"),
    ("map_4kib_guest", 598.0, "seL4"),
    ("unmap_4kib_guest", 557.0, "seL4"),
    ("user_page_fault", 1730.0, "seL4"),
    ("hvc_round_trip", 1919.0, "seL4"),
    ("hvc_round_trip_donated", 1919.0, "seL4"),
    ("unmapped_round_trip", 1817.0, "seL4"),
    ("unmapped_round_trip_donated", 1817.0, "seL4"),
    ("wfi_round_trip", 1804.0, "seL4"),
    ("wfi_round_trip_donated", 1804.0, "seL4"),
    ("wfi_round_trip_alternating", 2603.0, "seL4"),
    ("vcpu_read_reg", 455.0, "seL4"),
    ("vcpu_write_reg", 460.0, "seL4"),
    ("vcpu_inject_irq", 467.0, "seL4"),
    // Not in the record: measured with the same program on seL4 16 release.
    ("vmm_mmio_read_round_trip", 2967.0, "seL4"),
    ("cnode_cancel_badged_sends_none", 572.0, "seL4"),
    ("cnode_mutate", 667.0, "seL4"),
    ("cnode_rotate", 848.0, "seL4"),
    ("cap_fault_round_trip", 1874.0, "seL4"),
    ("unknown_syscall_round_trip", 1820.0, "seL4"),
    ("user_exception_round_trip", 1766.0, "seL4"),
    ("ipc_call_reply_4_active", 2284.0, "seL4"),
    ("ipc_call_reply_10_active", 2196.0, "seL4"),
    ("nb_send_no_receiver", 430.0, "seL4"),
    ("nb_recv_empty", 337.0, "seL4"),
    ("send_to_receiver", 1557.0, "seL4"),
    ("nb_send_to_receiver", 1557.0, "seL4"),
    ("nb_send_recv_round_trip", 2635.0, "seL4"),
    ("nb_send_wait_round_trip", 2103.0, "seL4"),
    ("tcb_read_registers", 834.0, "seL4"),
    ("tcb_write_registers", 1058.0, "seL4"),
    ("tcb_copy_registers", 718.0, "seL4"),
    ("tcb_set_tls_base", 473.0, "seL4"),
    ("tcb_set_flags", 483.0, "seL4"),
    ("tcb_configure", 1721.0, "seL4"),
    ("tcb_set_space", 1726.0, "seL4"),
    ("tcb_set_ipc_buffer", 796.0, "seL4"),
    ("tcb_set_timeout_endpoint", 807.0, "seL4"),
    ("tcb_set_priority", 517.0, "seL4"),
    ("tcb_set_mc_priority", 503.0, "seL4"),
    ("tcb_set_sched_params", 720.0, "seL4"),
    ("tcb_resume", 819.0, "seL4"),
    ("tcb_suspend", 543.0, "seL4"),
    ("tcb_bind_notification", 504.0, "seL4"),
    ("tcb_unbind_notification", 474.0, "seL4"),
    ("domain_set", 504.0, "seL4"),
    ("sched_control_configure", 540.0, "seL4"),
    ("sched_context_bind", 513.0, "seL4"),
    ("sched_context_unbind", 490.0, "seL4"),
    ("sched_context_unbind_object", 505.0, "seL4"),
    ("sched_context_consumed", 476.0, "seL4"),
    ("sched_context_yield_to", 618.0, "seL4"),
    ("irq_issue_handler_trigger", 622.0, "seL4"),
    ("irq_issue_sgi_signal", 590.0, "seL4"),
    ("irq_issue_handler", 598.0, "seL4"),
    ("irq_delete_handler", 671.0, "seL4"),
    ("irq_set_handler", 532.0, "seL4"),
    ("irq_clear_handler", 560.0, "seL4"),
    ("irq_ack", 454.0, "seL4"),
    ("page_clean_4kib", 842.0, "seL4"),
    ("page_invalidate_4kib", 918.0, "seL4"),
    ("page_clean_invalidate_4kib", 1167.0, "seL4"),
    ("page_unify_4kib", 850.0, "seL4"),
    ("vspace_clean_4kib", 906.0, "seL4"),
    ("vspace_invalidate_4kib", 977.0, "seL4"),
    ("vspace_clean_invalidate_4kib", 1225.0, "seL4"),
    ("vspace_unify_4kib", 917.0, "seL4"),
    ("page_get_address", 459.0, "seL4"),
    ("asid_control_make_pool", 2322.0, "seL4"),
    ("asid_pool_assign", 510.0, "seL4"),
    ("vcpu_set_tcb", 483.0, "seL4"),
    ("vcpu_ack_vppi", 455.0, "seL4"),
    ("domain_schedule_configure", 464.0, "seL4"),
    ("domain_schedule_set_start", 805.0, "seL4"),
    // From 2.4 to 2.7 million, for images of 0.4 to 2.7 MiB.
    ("kernel_entry_to_root_task", 2_400_000.0, "seL4"),
    ("linux_boot_exits", 786.0, "Xen"),
    ("move_256mib_per_page", 7155.0, "Xen"),
    // Host and one guest, without a heartbeat.
    ("idle_guest_10s", 6_000_000.0, "Xen"),
    ("idle_guest_quiet_10s", 6_000_000.0, "Xen"),
];

/// What is recorded for a row.
#[must_use]
pub fn recorded(name: &str) -> Option<f64> {
    RECORDED
        .iter()
        .find(|(row, ..)| *row == name)
        .map(|(_, value, _)| *value)
}

/// The rows, each with the recorded figure of the best peer and ours divided by it.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{:<34} {:>14} {:<18} {:>14} {:<14} {:>6}",
        "", "ours", "unit", "recorded", "", "ratio"
    );
    for row in rows {
        let _ = write!(
            out,
            "{:<34} {:>14} {:<18}",
            row.name,
            figure(row.value),
            row.unit
        );
        match RECORDED.iter().find(|(name, ..)| *name == row.name) {
            Some((_, recorded, whose)) => {
                let ratio = row.value / recorded;
                let _ = writeln!(out, " {:>14} {whose:<14} {ratio:>6.2}", figure(*recorded));
            }
            None => out.push('\n'),
        }
    }
    out
}

/// A number with its thousands apart; two places when it is small and broken.
fn figure(value: f64) -> String {
    if value.fract().abs() > 1e-9 && value < 1000.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_stands_beside_its_peer() {
        let text = table(&[
            Row::new("clean_2mib", 115_787.1, "instructions"),
            Row::new("other", 1.5, "ratio"),
        ]);
        assert!(text.contains("115,787"), "{text}");
        assert!(text.contains("1,157,871 seL4"), "{text}");
        assert!(
            text.lines()
                .nth(1)
                .is_some_and(|line| line.ends_with("0.10")),
            "{text}"
        );
        assert!(text.contains("1.50"), "{text}");
    }
}
