//! What arrives on the serial line and in messages of components: it decodes, or it is refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use line::Decoder;
use protocol::codec::decode;
use protocol::{balancer, console, management, memory, supervisor};

fuzz_target!(|bytes: &[u8]| {
    let words: Vec<u64> = bytes
        .chunks(8)
        .map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_le_bytes(word)
        })
        .collect();
    let _ = decode::<memory::Request>(&words);
    let _ = decode::<balancer::Request>(&words);
    let _ = decode::<supervisor::Request>(&words);
    let _ = decode::<console::Request>(&words);
    let _ = decode::<management::HostRequest>(&words);
    let _ = decode::<management::BoardMessage>(&words);
    let mut decoder = Decoder::new();
    for &byte in bytes {
        core::hint::black_box(decoder.push(byte));
    }
});
