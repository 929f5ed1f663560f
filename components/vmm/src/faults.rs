//! The second thread: the main thread's own faults.
//!
//! The only fault that a VMM survives is one in a guarded copy of its window onto the guest: the frame was taken by
//! force under its hands. The copy then ends with an error, and what the guest asked for fails.

use cap::{After, Endpoint, Reply, Tcb};
use protocol::slots;
use protocol::startup::Startup;
use protocol::supervisor::{self, EndReason};
use sel4_sys::{Fault, vm_fault};

/// Receives the main thread's faults for ever.
pub fn serve(_: Startup) {
    let endpoint = Endpoint::new(slots::vmm::WINDOW_FAULTS);
    let reply = Reply::new(slots::vmm::FAULT_REPLY);
    let main = Tcb::new(slots::vmm::MAIN_TCB);
    while let Ok(fault) = endpoint.recv(reply) {
        let landing = (fault.label() == Fault::VmFault as u64)
            .then(|| rt::guarded::resume_after_fault(fault.word(vm_fault::IP)))
            .flatten();
        if let Some(pc) = landing
            && main.write_words(After::Resume, &[pc]).is_ok()
        {
            continue;
        }
        let detail = rt::line(format_args!(
            "the VMM faulted: kind {} at {:#x}, address {:#x}",
            fault.label(),
            fault.word(vm_fault::IP),
            fault.word(vm_fault::ADDR)
        ));
        let why = EndReason::VmmFault;
        let supervisor = Endpoint::new(slots::SUPERVISOR);
        // The supervisor takes everything back; whatever it answers, there is nothing left to do here.
        let _: Result<supervisor::Reply, _> = cap::call_value(
            supervisor,
            &supervisor::Request::Ended { why, detail },
            None,
        );
    }
}
