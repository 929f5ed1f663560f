//! Parts of the components against the real kernel, where a fake cannot show what matters.
//!
//! Now: a guarded copy whose memory is revoked in the middle. The copier is a thread of its own, as in a VMM; the test is
//! its fault handler, and the one that takes the memory away while the copy is under way.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![deny(unsafe_code)]

#[cfg(not(target_os = "none"))]
fn main() {}

#[cfg(target_os = "none")]
mod in_qemu {
    use core::sync::atomic::{AtomicU64, Ordering};
    use guest_window::guarded::{CopyError, resume_after_fault};
    use guest_window::window::GUEST;
    use protocol::layout::ipa;
    use protocol::units::{PIECE_BITS, PIECE_BYTES};
    use sel4_sys::{
        CapRights, Fault, Invocation, ObjectType, init_slot, syscall, vm_attributes, vm_fault,
    };
    use testbed::{Env, ThreadSpec, println};

    /// Where the two pieces meet.
    const BORDER: u64 = ipa::RAM + PIECE_BYTES;
    /// A copy reaches so far to both sides of it; no multiple of what the routine moves at once.
    const REACH: usize = 61;
    /// What the copier's bytes are before a copy.
    const UNTOUCHED: u8 = 0xee;

    /// A copy that ended: whole, or early.
    const WHOLE: u64 = 1;
    const VANISHED: u64 = 2;
    const OTHER: u64 = 3;
    static RESULT: AtomicU64 = AtomicU64::new(0);
    /// Bytes of the last copy that are what the window held, from the first on.
    static ARRIVED: AtomicU64 = AtomicU64::new(0);

    /// The byte at an address of the window.
    const fn pattern(at: u64) -> u8 {
        (at % 199) as u8
    }

    /// Copies each time it is signalled, to or from the window. `argument`: notifications for "go" and "done", 20 bits
    /// each, then 1 for copies into the window.
    extern "C" fn copier(argument: u64) -> ! {
        let (go, done) = (argument >> 40, (argument >> 20) & 0xf_ffff);
        let from = BORDER - REACH as u64;
        loop {
            syscall::wait(go);
            let mut bytes = [UNTOUCHED; 2 * REACH];
            let result = if argument & 1 == 0 {
                GUEST.copy_out(from, &mut bytes)
            } else {
                for (byte, at) in bytes.iter_mut().zip(from..) {
                    *byte = pattern(at);
                }
                GUEST.copy_in(from, &bytes)
            };
            let arrived = bytes
                .iter()
                .zip(from..)
                .take_while(|(byte, at)| **byte == pattern(*at))
                .count();
            ARRIVED.store(arrived as u64, Ordering::SeqCst);
            let code = match result {
                Ok(()) => WHOLE,
                Err(CopyError::Vanished) => VANISHED,
                Err(CopyError::OutOfWindow(_)) => OTHER,
            };
            RESULT.store(code, Ordering::SeqCst);
            syscall::signal(done);
        }
    }

    /// Two pieces side by side in the window, and the copier.
    struct World {
        pieces: [u64; 2],
        frames: [u64; 2],
        faults: u64,
        reply: u64,
        go: u64,
        done: u64,
        thread: u64,
    }

    impl World {
        fn new(env: &mut Env, into: u64) -> Self {
            let [pieces, frames] = [(); 2].map(|()| [env.slot(), env.slot()]);
            let world = Self {
                pieces,
                frames,
                faults: env.object(ObjectType::Endpoint, 0),
                reply: env.object(ObjectType::Reply, 0),
                go: env.object(ObjectType::Notification, 0),
                done: env.object(ObjectType::Notification, 0),
                thread: 0,
            };
            for index in [0, 1] {
                let untyped = env.untyped();
                let bits = u64::from(PIECE_BITS);
                let made = env.retype(untyped, ObjectType::Untyped, bits, world.pieces[index], 1);
                assert!(made.label == 0, "no piece: {}", made.label);
                world.grant(env, index);
            }
            let spec = ThreadSpec {
                fault_endpoint: world.faults,
                ..ThreadSpec::default()
            };
            let argument = world.go << 40 | world.done << 20 | into;
            let thread = env.spawn(spec, copier, argument);
            Self { thread, ..world }
        }

        /// Makes the piece's frame, maps it, and writes the pattern.
        fn grant(&self, env: &mut Env, index: usize) {
            let made = env.retype(
                self.pieces[index],
                ObjectType::LargePage,
                0,
                self.frames[index],
                1,
            );
            assert!(made.label == 0, "no frame: {}", made.label);
            self.map(env, index);
            let base = ipa::RAM + index as u64 * PIECE_BYTES;
            for at in (base..base + PIECE_BYTES).step_by(4096) {
                // The pages at the border are what is copied.
                let bytes: [u8; 64] = core::array::from_fn(|byte| pattern(at + byte as u64));
                assert!(GUEST.write(at, &bytes).is_ok());
                let end = at + 4096 - 64;
                let bytes: [u8; 64] = core::array::from_fn(|byte| pattern(end + byte as u64));
                assert!(GUEST.write(end, &bytes).is_ok());
            }
        }

        fn map(&self, env: &mut Env, index: usize) {
            let vaddr = GUEST.vaddr() + ipa::RAM + index as u64 * PIECE_BYTES;
            let attributes = vm_attributes::DEFAULT | vm_attributes::EXECUTE_NEVER;
            // At most the three levels of tables above a large page are missing.
            for _ in 0..4 {
                let rights = CapRights::READ_WRITE;
                let frame = self.frames[index];
                if env
                    .map(frame, init_slot::VSPACE, vaddr, rights, attributes)
                    .label
                    == 0
                {
                    return;
                }
                let table = env.object(ObjectType::PageTable, 0);
                env.invoke(
                    table,
                    Invocation::ArmPageTableMap,
                    &[vaddr, vm_attributes::DEFAULT],
                    &[init_slot::VSPACE],
                );
            }
            panic!("piece {index} cannot be mapped");
        }

        /// Starts a copy whose first piece is not mapped, and takes what comes of it; the address.
        fn begin(&self, env: &mut Env) -> u64 {
            env.invoke(self.frames[0], Invocation::ArmPageUnmap, &[], &[]);
            RESULT.store(0, Ordering::SeqCst);
            syscall::signal(self.go);
            self.fault().0
        }

        /// The copier's next fault: where in the window, and at which instruction.
        fn fault(&self) -> (u64, u64) {
            let message = syscall::recv(self.faults, self.reply);
            assert!(message.info.label() == Fault::VmFault as u64);
            let word = |index: usize| message.words.get(index).copied().unwrap_or(0);
            let at = word(vm_fault::ADDR).wrapping_sub(GUEST.vaddr());
            (at, word(vm_fault::IP))
        }

        /// The copier goes on at `pc`, as a VMM's fault thread has it.
        fn land(&self, env: &Env, pc: u64) {
            let words = [1, 1, pc];
            let landed = env.invoke(self.thread, Invocation::TcbWriteRegisters, &words, &[]);
            assert!(landed.label == 0, "not landed: {}", landed.label);
        }

        /// Waits for the copy's end: its result and how many bytes arrived.
        fn end(&self) -> (u64, u64) {
            syscall::wait(self.done);
            (
                RESULT.load(Ordering::SeqCst),
                ARRIVED.load(Ordering::SeqCst),
            )
        }
    }

    /// Copies to or from the window while the second piece is revoked, and again when it is back.
    fn revoked_under_a_copy(env: &mut Env, into: u64) -> Result<(), &'static str> {
        let all = 2 * REACH as u64;
        let world = World::new(env, into);
        // Nothing happens to the first one.
        syscall::signal(world.go);
        if world.end() != (WHOLE, all) {
            return Err("a copy of memory that is there");
        }
        for _ in 0..2 {
            // The copy has begun and stands still in the first piece. The second one is taken from it, whole.
            if world.begin(env) >= BORDER {
                return Err("the copy began somewhere else");
            }
            assert!(env.revoke(world.pieces[1]).label == 0);
            world.map(env, 0);
            // The instruction runs again, and the copy goes on to the border.
            syscall::send(world.reply, sel4_sys::MessageInfo::new(0, 0, 0, 0), [0; 4]);
            let (at, pc) = world.fault();
            if !(BORDER..BORDER + 16).contains(&at) {
                return Err("the second fault is not where the memory ends");
            }
            let Some(landing) = resume_after_fault(pc) else {
                return Err("the fault is not known as one of a copy");
            };
            world.land(env, landing);
            let (result, arrived) = world.end();
            if result != VANISHED {
                return Err("the copy did not end with `Vanished`");
            }
            // Out of the window: what lies before the border has arrived, but for less than one step.
            if into == 0 && !(REACH as u64 - 16..=REACH as u64).contains(&arrived) {
                return Err("not what lies before the border");
            }
            // The next copies work as soon as there is memory again.
            world.grant(env, 1);
            syscall::signal(world.go);
            if world.end() != (WHOLE, all) {
                return Err("the next copy");
            }
        }
        // A fault anywhere else is none of a copy.
        if resume_after_fault(revoked_under_a_copy as *const () as u64).is_some() {
            return Err("any instruction passes for a copy's");
        }
        Ok(())
    }

    /// The tests.
    pub fn run(env: &mut Env) {
        let (mut passed, mut failed) = (0, 0);
        for (name, into) in [
            ("memory_revoked_under_a_copy_out_of_it", 0),
            ("memory_revoked_under_a_copy_into_it", 1),
        ] {
            match revoked_under_a_copy(env, into) {
                Ok(()) => {
                    passed += 1;
                    println!("test {name} ... ok");
                }
                Err(what) => {
                    failed += 1;
                    println!("test {name} ... FAILED: {what}");
                }
            }
        }
        println!("{passed} passed, {failed} failed");
    }
}

#[cfg(target_os = "none")]
testbed::root_task!(in_qemu::run);
