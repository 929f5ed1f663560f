//! Scheduling contexts that are lent, passed on and given back.

use super::*;
use crate::suite::Test;

/// The tests of this module.
pub const TESTS: &[Test] = &[
    ("ipc_time_is_lent_to_a_passive_server", lent_time),
    ("ipc_time_goes_with_calls_alone", no_time),
    (
        "ipc_time_goes_on_with_a_polling_send_and_receive",
        passed_time,
    ),
    (
        "ipc_time_comes_back_when_the_reply_object_goes",
        returned_time,
    ),
    ("ipc_time_of_a_notification_runs_its_waiter", signalled_time),
    (
        "ipc_a_passive_fault_handler_runs_on_the_faulters_time",
        fault_time,
    ),
];

fn lent_time(env: &mut Env) -> Result<(), Failure> {
    scene(env, |s| {
        s.does(1, Syscall::Recv, PLAIN, NONE, REPLY);
        same!(s.makes_passive(1), 0);
        s.does(0, Syscall::Call, ALL, tag(7), 0);
        same!(s.got(1).1.label(), 7);
        same!(s.is_back(0), 0);
        // It runs on: it can do other things before it answers, and then has no time.
        s.does(1, Syscall::NBSend, OTHER, NONE, 0);
        same!(s.is_back(1), 1);
        s.does(1, Syscall::ReplyRecv, PLAIN, tag(8), REPLY);
        same!(s.got(0).1.label(), 8);
        same!(s.is_back(1), 0);
        s.does(0, Syscall::Call, ALL, tag(9), 0);
        same!(s.got(1).1.label(), 9);
        // Unbound from the object that it was lent to, the time is the caller's again, who still waits.
        let unbind = Invocation::SchedContextUnbindObject;
        let server = [s.stage.threads[1]];
        same!(s.invoke(s.stage.contexts[0], unbind, &server), 0);
        s.does(1, Syscall::NBSend, OTHER, NONE, 0);
        same!(s.is_back(1), 0);
        same!(s.is_back(0), 0);
        Ok(())
    })
}

fn no_time(env: &mut Env) -> Result<(), Failure> {
    scene(env, |s| {
        // Sent to, a passive thread has the message and no time.
        for call in [Syscall::Send, Syscall::NBSend] {
            s.does(1, Syscall::Recv, PLAIN, NONE, REPLY);
            same!(s.makes_passive(1), 0);
            s.does(0, call, ALL, tag(7), 0);
            same!(s.is_back(0), 1);
            same!(s.is_back(1), 0);
            let bind = Invocation::SchedContextBind;
            let thread = [s.stage.threads[1]];
            same!(s.invoke(s.stage.contexts[1], bind, &thread), 0);
            same!(s.got(1).1.label(), 7);
        }
        // Who receives without a reply object is not lent any either, and the caller cannot be answered.
        s.does(1, Syscall::Wait, PLAIN, NONE, 0);
        same!(s.makes_passive(1), 0);
        s.does(0, Syscall::Call, ALL, tag(8), 0);
        same!(s.is_back(1), 0);
        same!(s.is_back(0), 0);
        Ok(())
    })
}

fn passed_time(env: &mut Env) -> Result<(), Failure> {
    scene(env, |s| {
        s.does(1, Syscall::Recv, PLAIN, NONE, REPLY);
        same!(s.makes_passive(1), 0);
        let route = [OTHER, SECOND_REPLY, ALL];
        s.does_with(0, Syscall::NBSendRecv, route, tag(7), &[]);
        same!(s.got(1).1.label(), 7);
        // The time stays there: the sender is passive now.
        s.does(2, Syscall::Send, OTHER, tag(8), 0);
        same!(s.is_back(0), 0);
        let route = [PLAIN, REPLY, OTHER];
        s.does_with(1, Syscall::NBSendRecv, route, tag(9), &[]);
        // Nobody receives there any more: the message is lost, the time stays.
        same!(s.is_back(1), 0);
        Ok(())
    })
}

fn returned_time(env: &mut Env) -> Result<(), Failure> {
    scene(env, |s| {
        s.does(1, Syscall::Recv, PLAIN, NONE, REPLY);
        same!(s.makes_passive(1), 0);
        s.does(0, Syscall::Call, ALL, tag(7), 0);
        same!(s.got(1).1.label(), 7);
        let reply = s.stage.replies[0];
        same!(s.env.revoke(reply).label, 0);
        same!(s.env.delete(reply).label, 0);
        // The server has no time; the caller has it again, and still waits for an answer that cannot come.
        s.does(1, Syscall::NBSend, OTHER, NONE, 0);
        same!(s.is_back(1), 0);
        same!(s.is_back(0), 0);
        same!(s.stage.restart(0), 0);
        s.does(0, Syscall::NBSend, OTHER, NONE, 0);
        same!(s.is_back(0), 1);
        Ok(())
    })
}

fn signalled_time(env: &mut Env) -> Result<(), Failure> {
    scene(env, |s| {
        s.does(1, Syscall::Wait, SIGNAL, NONE, 0);
        same!(s.makes_passive(1), 0);
        let bind = Invocation::SchedContextBind;
        let notification = [s.stage.notifications[0]];
        same!(s.invoke(s.stage.contexts[1], bind, &notification), 0);
        s.does(0, Syscall::Send, SIGNAL, NONE, 0);
        same!(s.got(1).0, 1);
        // Waiting there again gives the time back.
        s.does(1, Syscall::Wait, SIGNAL, NONE, 0);
        same!(s.is_back(1), 0);
        let other = [s.stage.threads[2]];
        let unbind = Invocation::SchedContextUnbind;
        same!(s.invoke(s.stage.contexts[2], unbind, &[]), 0);
        same!(s.invoke(s.stage.contexts[1], bind, &other), 0);
        s.does(2, Syscall::NBSend, OTHER, NONE, 0);
        same!(s.is_back(2), 1);
        Ok(())
    })
}

fn fault_time(env: &mut Env) -> Result<(), Failure> {
    scene(env, |s| {
        // Puppet 0's faults go to the first endpoint, where puppet 1 receives without time of its own.
        let params = Invocation::TcbSetSchedParams;
        let caps = [init_slot::TCB, s.stage.contexts[0], s.stage.endpoints[0]];
        let tcb = s.stage.threads[0];
        same!(s.env.invoke(tcb, params, &[110, 110], &caps).label, 0);
        s.does(1, Syscall::Recv, PLAIN, NONE, REPLY);
        same!(s.makes_passive(1), 0);
        s.does(0, Syscall::Recv, SENDS, NONE, REPLY);
        same!(s.got(1).1.label(), Fault::CapFault.word());
        // Answered, the faulter makes its system call again, and faults again.
        s.does(1, Syscall::ReplyRecv, PLAIN, NONE, REPLY);
        same!(s.got(1).1.label(), Fault::CapFault.word());
        Ok(())
    })
}
