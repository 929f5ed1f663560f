//! The template's test in QEMU: the core behind a real endpoint, asked by real clients.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![deny(unsafe_code)]

#[cfg(not(target_os = "none"))]
fn main() {}

#[cfg(target_os = "none")]
mod in_qemu {
    use component_template::{CLIENTS, Kernel, Reply, Request, Tickets};
    use sel4_sys::{CapRights, MessageInfo, ObjectType, syscall};
    use testbed::{Env, ThreadSpec, println};

    /// The kernel behind the trait: client `n`'s notification is in slot `first + n`, badged `n + 1`.
    struct Real {
        first: u64,
    }

    impl Kernel for Real {
        fn signal(&mut self, client: usize) {
            syscall::signal(self.first + client as u64);
        }
    }

    /// The receive loop. `argument`: endpoint, reply object and first notification, 20 bits each.
    extern "C" fn server(argument: u64) -> ! {
        let (endpoint, reply) = (argument >> 40, (argument >> 20) & 0xf_ffff);
        let mut kernel = Real {
            first: argument & 0xf_ffff,
        };
        let mut tickets = Tickets::new(1);
        let mut message = syscall::recv(endpoint, reply);
        loop {
            let request = Request::from_label(message.info.label());
            // Badges are the client's number plus one: an unbadged capability says 0.
            let answer = tickets.handle(&mut kernel, message.badge.wrapping_sub(1), request);
            let info = MessageInfo::new(answer as u64, 0, 0, 0);
            message = syscall::reply_recv(endpoint, info, [0; 4], reply);
        }
    }

    fn ask(client: u64, label: u64) -> u64 {
        testbed::invoke(client, label, &[], &[]).label
    }

    /// The test.
    pub fn run(env: &mut Env) {
        let endpoint = env.object(ObjectType::Endpoint, 0);
        let reply = env.object(ObjectType::Reply, 0);
        let notifications = env.slots(CLIENTS as u64);
        let untyped = env.untyped();
        env.retype(
            untyped,
            ObjectType::Notification,
            0,
            notifications,
            CLIENTS as u64,
        );
        let badged = env.mint(notifications, CapRights::WRITE, 1);
        for client in 1..CLIENTS as u64 {
            env.mint(notifications + client, CapRights::WRITE, client + 1);
        }
        env.spawn(
            ThreadSpec::default(),
            server,
            endpoint << 40 | reply << 20 | badged,
        );
        let rights = CapRights::WRITE.union(CapRights::GRANT_REPLY);
        let (first, second) = (env.mint(endpoint, rights, 1), env.mint(endpoint, rights, 2));
        let expected = [
            (first, 1, Reply::Done),
            (second, 1, Reply::Later),
            (second, 2, Reply::NotYours),
            (first, 2, Reply::Done),
            (second, 1, Reply::Done),
            (second, 77, Reply::Malformed),
            (endpoint, 1, Reply::Malformed),
        ];
        let (mut passed, mut failed) = (0, 0);
        for (number, (client, label, reply)) in expected.into_iter().enumerate() {
            let answer = ask(client, label);
            let good = answer == reply as u64;
            println!(
                "test template_request_{number} ... {}",
                if good { "ok" } else { "FAILED" }
            );
            if good { passed += 1 } else { failed += 1 }
        }
        // The second client, and nobody else, was told when the first returned its ticket.
        let told = |client: u64| syscall::nb_wait(notifications + client).badge;
        let good = told(0) == 0 && told(1) == 2 && told(1) == 0;
        println!(
            "test template_waiting_client_is_signalled ... {}",
            if good { "ok" } else { "FAILED" }
        );
        if good {
            passed += 1
        } else {
            failed += 1
        }
        println!("{passed} passed, {failed} failed");
    }
}

#[cfg(target_os = "none")]
testbed::root_task!(in_qemu::run);
