//! `workload TTY [--seed N]`: serves commands on a serial line. `workload --once SCRIPT`: carries out a script (commands
//! separated by `;`, or a file of them) and prints the answers; its status tells whether all succeeded.
//! `workload load LOAD`: one of the loads of `burst`, in this process.
//! `workload clock`: prints the architecture's counter and its frequency, for measuring a boot.
#![deny(unsafe_code)]

mod counter;

use rustix::fs::{Mode, OFlags};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::process::ExitCode;
use workload::agent::{Agent, Next, Running};
use workload::burst;
use workload::clock::{LongestGap, System, start_heartbeat};
use workload::command::{Command, parse};

const USAGE: &str = "usage: workload TTY [--seed N]\n       workload --once SCRIPT [--seed N]\n       workload load fault|tmpfs|forks|cache ...\n       workload clock";

enum Job {
    Serve { tty: String },
    Once { script: String },
}

struct Options {
    job: Job,
    seed: u64,
}

fn options(arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut arguments = arguments.peekable();
    let mut job = None;
    let mut seed = None;
    while let Some(argument) = arguments.next() {
        let mut value = |what| {
            arguments
                .next()
                .ok_or_else(|| format!("{argument} wants {what}\n{USAGE}"))
        };
        match argument.as_str() {
            "--once" => {
                job = Some(Job::Once {
                    script: value("a script")?,
                });
            }
            "--seed" => {
                let text = value("a number")?;
                seed = Some(
                    text.parse()
                        .map_err(|_| format!("--seed wants a number, found {text:?}\n{USAGE}"))?,
                );
            }
            _ if job.is_none() && !argument.starts_with('-') => {
                job = Some(Job::Serve { tty: argument });
            }
            _ => return Err(format!("unexpected {argument:?}\n{USAGE}")),
        }
    }
    let seed = match seed {
        Some(seed) => seed,
        None => random_seed().map_err(|error| format!("/dev/urandom: {error}"))?,
    };
    Ok(Options {
        job: job.ok_or(USAGE)?,
        seed,
    })
}

/// A seed that no other guest has.
fn random_seed() -> io::Result<u64> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// Opens the line and makes it raw: no echo, no translation, no signals.
fn open_line(path: &str) -> io::Result<File> {
    let line = rustix::fs::open(path, OFlags::RDWR | OFlags::NOCTTY, Mode::empty())?;
    let mut settings = tcgetattr(&line)?;
    settings.make_raw();
    tcsetattr(&line, OptionalActions::Now, &settings)?;
    Ok(File::from(line))
}

fn serve(mut agent: Agent<Running, System>, tty: &str) -> io::Result<()> {
    let line = open_line(tty)?;
    let mut output = line.try_clone()?;
    agent.serve(&mut BufReader::new(line), &mut output)
}

fn once(mut agent: Agent<Running, System>, script: &str) -> io::Result<ExitCode> {
    let text = if std::path::Path::new(script).is_file() {
        std::fs::read_to_string(script)?
    } else {
        script.replace(';', "\n")
    };
    let mut status = ExitCode::SUCCESS;
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with("--") {
            continue;
        }
        let (answer, next) = agent.answer(line);
        println!("{answer}");
        if !(answer.starts_with("ok") || answer.contains(" ok ")) {
            status = ExitCode::FAILURE;
        }
        if next == Next::End {
            break;
        }
    }
    Ok(status)
}

/// Carries out one load here and prints what it took.
fn load(text: &str) -> ExitCode {
    let result = match text.strip_prefix("hold ") {
        Some(bytes) => match bytes.parse() {
            Ok(bytes) => burst::hold(bytes).map(|()| None).map_err(|e| e.to_string()),
            Err(_) => Err(format!("hold wants a number of bytes, found {bytes:?}")),
        },
        None => match parse(&format!("burst {text}")) {
            Ok(Command::Burst(load)) => burst::run(load)
                .map(Some)
                .map_err(|error| error.to_string()),
            Ok(_) => Err(USAGE.to_owned()),
            Err(error) => Err(error.to_string()),
        },
    };
    match result {
        Ok(Some(took)) => {
            println!("{took}");
            ExitCode::SUCCESS
        }
        Ok(None) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("workload: {error}");
            ExitCode::FAILURE
        }
    }
}

fn main() -> ExitCode {
    if std::env::args().skip(1).eq(["clock"]) {
        return match counter::read() {
            Some((ticks, hz)) => {
                println!("{ticks} ticks of {hz} Hz");
                ExitCode::SUCCESS
            }
            None => {
                eprintln!("workload: this machine has no architectural counter");
                ExitCode::FAILURE
            }
        };
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, rest @ ..] = arguments.as_slice()
        && first == "load"
    {
        return load(&rest.join(" "));
    }
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    let heartbeat = LongestGap::default();
    if let Err(error) = start_heartbeat(heartbeat.clone()) {
        eprintln!("workload: heartbeat: {error}");
        return ExitCode::FAILURE;
    }
    let agent = Agent::new(options.seed, Running, System::default(), heartbeat);
    let result = match &options.job {
        Job::Serve { tty } => serve(agent, tty)
            .map(|()| ExitCode::SUCCESS)
            .map_err(|error| (tty, error)),
        Job::Once { script } => once(agent, script).map_err(|error| (script, error)),
    };
    result.unwrap_or_else(|(what, error)| {
        eprintln!("workload: {what}: {error}");
        ExitCode::FAILURE
    })
}
