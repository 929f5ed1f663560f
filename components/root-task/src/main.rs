//! The root task: starts the components, then supervises guests.
//!
//! Each component gets the capabilities that its line in `manifest.rs` names, and no others. What the root task decides is
//! in the library of this crate, what it asks of the kernel in the modules below.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

mod component;
mod cspace;
mod device;
mod fault;
mod guests;
mod kernel;
mod sink;
mod store;
mod supervisor;
mod system;

rt::root_task!(run);

fn run(boot: rt::root::Boot) {
    rt::log::set_sink(&sink::SINK);
    let ended = system::start(boot).and_then(supervisor::Supervisor::run);
    if let Err(failure) = ended {
        rt::say(format_args!("cannot go on: {failure}"));
    }
}
