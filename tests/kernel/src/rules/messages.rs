//! Rights, badges, capabilities that go along, what is cut off, who is served first.

use super::*;
use crate::suite::Test;

/// The tests of this module.
pub const TESTS: &[Test] = &[
    ("ipc_receiving_needs_the_right", receive_right),
    ("ipc_sending_needs_the_right", send_right),
    (
        "ipc_a_call_that_cannot_be_answered_stops_the_caller",
        call_right,
    ),
    ("ipc_capabilities_go_with_the_right_to_grant", grant_right),
    (
        "ipc_one_capability_is_received_and_others_unwrapped",
        several_caps,
    ),
    (
        "ipc_an_unusable_receive_slot_loses_the_capability_only",
        receive_slots,
    ),
    (
        "ipc_a_capability_that_is_not_there_faults_or_is_silent",
        missing_caps,
    ),
    (
        "ipc_what_cannot_be_derived_ends_the_transfer",
        underivable_caps,
    ),
    ("ipc_messages_are_cut_to_what_fits", truncation),
    ("ipc_polling_sends_need_a_receiver", polling_sends),
    ("ipc_polling_receives_need_a_sender", polling_receives),
    (
        "ipc_senders_are_served_by_priority_then_in_order",
        sender_order,
    ),
    (
        "ipc_a_bound_notification_is_its_threads_alone",
        bound_notification,
    ),
    ("ipc_a_signal_wakes_one_waiter", one_waiter),
    ("ipc_an_answer_after_suspension_reaches_nobody", late_answer),
];

fn receive_right(env: &mut Env) -> Result<(), Failure> {
    scene(env, |s| {
        for call in [
            Syscall::Recv,
            Syscall::NBRecv,
            Syscall::Wait,
            Syscall::NBWait,
        ] {
            s.does(0, call, SENDS, NONE, REPLY);
            same!(s.is_back(0), 0);
            let (who, label, words) = s.fault();
            same!(who as u64, 0);
            same!(label, Fault::CapFault.word());
            same!(words[cap_fault::ADDR], SENDS);
            same!(words[cap_fault::IN_RECV_PHASE], 1);
            let missing = LookupFailure::MissingCapability.word();
            same!(words[cap_fault::LOOKUP_FAILURE_TYPE], missing);
            same!(s.stage.restart(0), 0);
        }
        // Without a reply object nothing is received either: what x6 names is none.
        s.does(0, Syscall::Recv, ALL, NONE, ALL);
        let (who, label, words) = s.fault();
        same!(who as u64, 0);
        same!(label, Fault::CapFault.word());
        same!(words[cap_fault::ADDR], ALL);
        Ok(())
    })
}

fn send_right(env: &mut Env) -> Result<(), Failure> {
    scene(env, |s| {
        s.does(1, Syscall::Recv, PLAIN, NONE, REPLY);
        s.does(0, Syscall::Call, RECEIVES, tag(7), 0);
        let (_, info) = s.got(0);
        same!(info.label(), Error::InvalidCapability.word());
        for call in [Syscall::Send, Syscall::NBSend] {
            s.does(0, call, RECEIVES, tag(7), 0);
            same!(s.is_back(0), 1);
        }
        same!(s.is_back(1), 0);
        s.does(0, Syscall::Send, SENDS, tag(7), 0);
        same!(s.got(1).0, badge(0, 3));
        same!(s.got(1).1.label(), 7);
        Ok(())
    })
}

fn call_right(env: &mut Env) -> Result<(), Failure> {
    scene(env, |s| {
        s.does(1, Syscall::Recv, PLAIN, NONE, REPLY);
        s.does(0, Syscall::Call, SENDS, tag(7), 0);
        same!(s.got(1).0, badge(0, 3));
        same!(s.is_back(0), 0);
        // The reply object holds nobody.
        s.does(1, Syscall::Send, REPLY, tag(8), 0);
        same!(s.is_back(1), 1);
        same!(s.is_back(0), 0);
        // The right to be answered is enough.
        same!(s.stage.restart(0), 0);
        s.does(1, Syscall::Recv, PLAIN, NONE, REPLY);
        s.does(0, Syscall::Call, CALLS, tag(7), 0);
        same!(s.is_back(0), 0);
        s.does(1, Syscall::Send, REPLY, tag(8), 0);
        same!(s.got(0).1.label(), 8);
        same!(s.got(0).0, 0);
        Ok(())
    })
}

fn grant_right(env: &mut Env) -> Result<(), Failure> {
    scene(env, |s| {
        for (cap, caps) in [(CALLS, 0), (GRANTS, 1), (SENDS, 0)] {
            s.receives_at(1, [OWN_NODE, EMPTY + caps, NODE_BITS]);
            s.does(1, Syscall::Recv, PLAIN, NONE, REPLY);
            s.does_with(0, Syscall::NBSend, [cap, 0, 0], tag(7), &[SIGNAL]);
            same!(s.got(1).1.label(), 7);
            same!(s.got(1).1.extra_caps(), caps);
        }
        // For an answer it is the reply capability's right that counts.
        for (reply, caps) in [(WEAK_REPLY, 0), (SECOND_REPLY, 1)] {
            s.receives_at(0, [OWN_NODE, EMPTY, NODE_BITS]);
            s.does(1, Syscall::Recv, PLAIN, NONE, SECOND_REPLY);
            s.does(0, Syscall::Call, CALLS, tag(7), 0);
            s.does_with(1, Syscall::Send, [reply, 0, 0], tag(8), &[SIGNAL]);
            same!(s.got(0).1.label(), 8);
            same!(s.got(0).1.extra_caps(), caps);
        }
        Ok(())
    })
}

fn several_caps(env: &mut Env) -> Result<(), Failure> {
    scene(env, |s| {
        // To the endpoint itself: the badge arrives; else the capability, once.
        for (caps, count, unwrapped) in [
            ([ALL, CALLS, PLAIN], 3, 7),
            ([SIGNAL, CALLS, OTHER], 2, 2),
            ([CALLS, SIGNAL, ALL], 3, 5),
            ([SIGNAL, OTHER, CALLS], 1, 0),
        ] {
            s.receives_at(1, [OWN_NODE, EMPTY, NODE_BITS]);
            s.does(1, Syscall::Recv, PLAIN, NONE, REPLY);
            s.does_with(0, Syscall::Send, [GRANTS, 0, 0], tag(7), &caps);
            let (_, info) = s.got(1);
            same!(info.extra_caps(), count);
            same!(info.caps_unwrapped(), unwrapped);
            let badges = s.stage.buffer(1).get().caps_or_badges;
            let sent = [(ALL, badge(0, 1)), (CALLS, badge(0, 2)), (PLAIN, 0)];
            for n in (0..3).filter(|n| unwrapped >> n & 1 == 1) {
                let expected = sent.iter().find(|(cap, _)| *cap == caps[n]);
                same!(badges[n], expected.map_or(u64::MAX, |(_, badge)| *badge));
            }
            let delete = Invocation::CNodeDelete;
            let words = [EMPTY, NODE_BITS];
            same!(s.env.invoke(s.stage.nodes[1], delete, &words, &[]).label, 0);
        }
        Ok(())
    })
}

fn receive_slots(env: &mut Env) -> Result<(), Failure> {
    scene(env, |s| {
        for slot in [
            [OWN_NODE, ALL, NODE_BITS],
            [OWN_NODE, EMPTY, NODE_BITS + 1],
            [OWN_NODE, EMPTY, 0],
            [OWN_NODE, EMPTY, 65],
            [ALL, EMPTY, NODE_BITS],
            [EMPTY, EMPTY, NODE_BITS],
            [1 << 40, EMPTY, NODE_BITS],
        ] {
            s.receives_at(1, slot);
            s.does(1, Syscall::Recv, PLAIN, NONE, REPLY);
            let info = MessageInfo::new(7, 0, 0, 6);
            // What is unwrapped needs no slot.
            s.does_with(0, Syscall::Send, [GRANTS, 0, 0], info, &[ALL, SIGNAL, ALL]);
            same!(s.got(1).0, 0x77);
            same!(s.got(1).1.0, MessageInfo::new(7, 1, 1, 6).0);
            same!(s.is_back(0), 1);
        }
        Ok(())
    })
}

fn missing_caps(env: &mut Env) -> Result<(), Failure> {
    scene(env, |s| {
        let far = 1 << 40;
        s.does(1, Syscall::Recv, PLAIN, NONE, REPLY);
        for (call, cap, extra) in [
            (Syscall::Call, far, SIGNAL),
            (Syscall::Send, far, SIGNAL),
            (Syscall::Call, ALL, far),
            (Syscall::Send, ALL, far),
        ] {
            s.does_with(0, call, [cap, 0, 0], tag(7), &[extra]);
            same!(s.is_back(0), 0);
            let (who, label, words) = s.fault();
            same!(who as u64, 0);
            same!(label, Fault::CapFault.word());
            same!(words[cap_fault::ADDR], far);
            same!(words[cap_fault::IN_RECV_PHASE], 0);
            let guard = LookupFailure::GuardMismatch.word();
            same!(words[cap_fault::LOOKUP_FAILURE_TYPE], guard);
            same!(words[cap_fault::BITS_LEFT], 64);
            same!(s.stage.restart(0), 0);
        }
        for (cap, extra) in [(far, SIGNAL), (ALL, far)] {
            s.does_with(0, Syscall::NBSend, [cap, 0, 0], tag(7), &[extra]);
            same!(s.is_back(0), 1);
        }
        same!(s.fault().1, u64::MAX);
        same!(s.is_back(1), 0);
        Ok(())
    })
}

fn underivable_caps(env: &mut Env) -> Result<(), Failure> {
    scene(env, |s| {
        for (caps, unwrapped) in [
            ([UNDERIVABLE, ALL, ALL], 0),
            ([ALL, UNDERIVABLE + 1, SIGNAL], 1),
        ] {
            s.receives_at(1, [OWN_NODE, EMPTY, NODE_BITS]);
            s.does(1, Syscall::Recv, PLAIN, NONE, REPLY);
            s.does_with(0, Syscall::Send, [GRANTS, 0, 0], tag(7), &caps);
            same!(s.got(1).1.0, MessageInfo::new(7, unwrapped, unwrapped, 0).0);
        }
        Ok(())
    })
}

fn truncation(env: &mut Env) -> Result<(), Failure> {
    scene(env, |s| {
        let receive = |s: &mut Scene<'_>, length| {
            s.receives_at(1, [OWN_NODE, EMPTY, NODE_BITS]);
            s.does(1, Syscall::Recv, PLAIN, NONE, REPLY);
            let info = MessageInfo::new(7, 0, 0, length);
            s.does_with(0, Syscall::Send, [GRANTS, 0, 0], info, &[ALL]);
            s.got(1).1
        };
        for (said, received) in [(0, 0), (4, 4), (5, 5), (120, 120), (121, 120), (127, 120)] {
            let info = receive(s, said);
            same!(info.length(), received);
            same!(info.extra_caps(), 1);
            let words = s.stage.buffer(1).get().msg;
            for (n, word) in (0..).zip(words).take(received as usize).skip(4) {
                same!(word, 0x1000 + n);
            }
        }
        // Who has no buffer has four words and no capabilities, whether it sends or receives.
        for without in [0, 1] {
            let buffer = s.stage.buffer(without);
            let set = Invocation::TcbSetIpcBuffer;
            let tcb = s.stage.threads[without];
            let frame = [buffer.frame];
            same!(s.env.invoke(tcb, set, &[0], &frame).label, 0);
            let info = receive(s, 20);
            same!(info.length(), 4);
            same!(info.extra_caps(), 0);
            same!(s.env.invoke(tcb, set, &[buffer.vaddr], &frame).label, 0);
        }
        same!(receive(s, 20).length(), 20);
        Ok(())
    })
}

fn polling_sends(env: &mut Env) -> Result<(), Failure> {
    scene(env, |s| {
        s.does(0, Syscall::NBSend, ALL, tag(7), 0);
        same!(s.is_back(0), 1);
        s.does(1, Syscall::NBRecv, PLAIN, NONE, REPLY);
        same!(s.got(1).0, 0);
        s.does(1, Syscall::Recv, PLAIN, NONE, REPLY);
        same!(s.is_back(1), 0);
        s.does(0, Syscall::NBSend, ALL, tag(8), 0);
        same!(s.got(1).0, badge(0, 1));
        same!(s.got(1).1.label(), 8);
        Ok(())
    })
}

fn polling_receives(env: &mut Env) -> Result<(), Failure> {
    scene(env, |s| {
        s.does(0, Syscall::Send, ALL, tag(7), 0);
        same!(s.is_back(0), 0);
        s.does(1, Syscall::NBRecv, PLAIN, NONE, REPLY);
        same!(s.got(1).0, badge(0, 1));
        same!(s.is_back(0), 1);
        s.does(0, Syscall::Call, ALL, tag(9), 0);
        s.does(1, Syscall::NBRecv, PLAIN, NONE, REPLY);
        same!(s.got(1).1.label(), 9);
        same!(s.is_back(0), 0);
        s.does(1, Syscall::ReplyRecv, PLAIN, tag(10), REPLY);
        same!(s.got(0).1.label(), 10);
        same!(s.is_back(1), 0);
        Ok(())
    })
}

fn sender_order(env: &mut Env) -> Result<(), Failure> {
    scene(env, |s| {
        // Puppets 0 to 2 send; 1 and 2 are as important as each other.
        let priority = Invocation::TcbSetPriority;
        let own = [init_slot::TCB];
        let tcb = s.stage.threads[1];
        same!(s.env.invoke(tcb, priority, &[112], &own).label, 0);
        for sender in [0, 2, 1] {
            s.does(sender, Syscall::Send, ALL, tag(7), 0);
        }
        for sender in [2, 1, 0] {
            s.does(3, Syscall::NBRecv, PLAIN, NONE, REPLY);
            same!(s.got(3).0, badge(sender, 1));
        }
        // A priority that changes moves a waiting sender.
        for sender in [1, 2] {
            s.does(sender, Syscall::Send, ALL, tag(7), 0);
        }
        let tcb = s.stage.threads[2];
        same!(s.env.invoke(tcb, priority, &[113], &own).label, 0);
        for sender in [2, 1] {
            s.does(3, Syscall::NBRecv, PLAIN, NONE, REPLY);
            same!(s.got(3).0, badge(sender, 1));
        }
        Ok(())
    })
}

fn bound_notification(env: &mut Env) -> Result<(), Failure> {
    scene(env, |s| {
        let notification = s.stage.notifications[0];
        let bind = Invocation::TcbBindNotification;
        same!(s.invoke(s.stage.threads[0], bind, &[notification]), 0);
        // Another thread that waits on it faults; its own thread gets signals while it receives.
        s.does(1, Syscall::Wait, SIGNAL, NONE, 0);
        let (who, label, words) = s.fault();
        same!(who as u64, 1);
        same!(label, Fault::CapFault.word());
        same!(words[cap_fault::ADDR], SIGNAL);
        same!(s.stage.restart(1), 0);
        s.does(0, Syscall::Recv, PLAIN, NONE, REPLY);
        s.does(1, Syscall::Send, SIGNAL, NONE, 0);
        same!(s.got(0).0, 2);
        same!(s.got(0).1.0, 0);
        // A signal comes before a message that waits already.
        s.does(1, Syscall::Send, ALL, tag(7), 0);
        syscall::signal(notification);
        s.does(2, Syscall::Send, SIGNAL, NONE, 0);
        s.does(0, Syscall::Recv, PLAIN, NONE, REPLY);
        same!(s.got(0).0, 4);
        s.does(0, Syscall::Recv, PLAIN, NONE, REPLY);
        same!(s.got(0).0, badge(1, 1));
        Ok(())
    })
}

fn one_waiter(env: &mut Env) -> Result<(), Failure> {
    scene(env, |s| {
        for waiter in [0, 2, 1] {
            s.does(waiter, Syscall::Wait, SIGNAL, NONE, 0);
        }
        for woken in [2, 1, 0] {
            same!(s.is_back(woken), 0);
            s.does(3, Syscall::Send, SIGNAL, NONE, 0);
            same!(s.got(woken).0, 8);
        }
        s.does(3, Syscall::Send, SIGNAL, NONE, 0);
        s.does(2, Syscall::NBSend, SIGNAL, NONE, 0);
        s.does(0, Syscall::NBWait, SIGNAL, NONE, 0);
        same!(s.got(0).0, 12);
        s.does(0, Syscall::NBWait, SIGNAL, NONE, 0);
        same!(s.got(0).0, 0);
        Ok(())
    })
}

fn late_answer(env: &mut Env) -> Result<(), Failure> {
    scene(env, |s| {
        s.does(1, Syscall::Recv, PLAIN, NONE, REPLY);
        s.does(0, Syscall::Call, ALL, tag(7), 0);
        let tcb = s.stage.threads[0];
        same!(s.invoke(tcb, Invocation::TcbSuspend, &[]), 0);
        s.does(1, Syscall::Send, REPLY, tag(8), 0);
        same!(s.is_back(1), 1);
        same!(s.is_back(0), 0);
        // Resumed, it makes its call again.
        s.does(1, Syscall::Recv, PLAIN, NONE, REPLY);
        same!(s.invoke(tcb, Invocation::TcbResume, &[]), 0);
        same!(s.got(1).1.label(), 7);
        s.does(1, Syscall::Send, REPLY, tag(9), 0);
        same!(s.got(0).1.label(), 9);
        Ok(())
    })
}
