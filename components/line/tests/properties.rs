//! Properties of the framing: what goes in comes out, damage never becomes a frame, text passes.

use line::{Channel, Decoder, EncodeError, Item, MAX_FRAME_BYTES, MAX_PAYLOAD_BYTES, encode};
use proptest::prelude::*;

#[derive(Debug, PartialEq, Eq, Clone)]
enum Owned {
    Frame(Channel, Vec<u8>),
    Text(Vec<u8>),
    Noise(Vec<u8>),
}

/// Everything a decoder finds in `bytes`, neighbouring text bytes joined, the end flushed.
fn take_apart(bytes: &[u8]) -> Vec<Owned> {
    let mut decoder = Decoder::new();
    let mut found = Vec::new();
    let mut add = |item: Item<'_>| match item {
        Item::Frame(frame) => found.push(Owned::Frame(frame.channel, frame.payload.to_vec())),
        Item::Noise(noise) => found.push(Owned::Noise(noise.to_vec())),
        Item::Text(byte) => match found.last_mut() {
            Some(Owned::Text(text)) => text.push(byte),
            _ => found.push(Owned::Text(vec![byte])),
        },
    };
    for &byte in bytes {
        if let Some(item) = decoder.push(byte) {
            add(item);
        }
    }
    if let Some(item) = decoder.flush() {
        add(item);
    }
    found
}

fn frame_bytes(channel: Channel, payload: &[u8]) -> Vec<u8> {
    let mut out = [0xee; MAX_FRAME_BYTES];
    let len = encode(channel, payload, &mut out).expect("the longest frame fits");
    out[..len].to_vec()
}

fn channel() -> impl Strategy<Value = Channel> {
    prop_oneof![
        Just(Channel::Management),
        any::<u8>().prop_map(Channel::Log),
        (0u8..32, 0u8..8).prop_map(|(guest, port)| Channel::Console { guest, port }),
    ]
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..MAX_PAYLOAD_BYTES),
        (
            0usize..=MAX_PAYLOAD_BYTES,
            prop_oneof![Just(0u8), Just(0xff), Just(1)]
        )
            .prop_map(|(len, byte)| vec![byte; len]),
    ]
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(1u8..=255, 0..80)
}

proptest! {
    #[test]
    fn frames_and_text_come_out_as_they_went_in(
        parts in proptest::collection::vec((text(), channel(), payload()), 0..8),
        tail in text(),
    ) {
        let mut line = Vec::new();
        let mut expected = Vec::new();
        for (text, channel, payload) in parts {
            if !text.is_empty() {
                line.extend_from_slice(&text);
                expected.push(Owned::Text(text));
            }
            line.extend(frame_bytes(channel, &payload));
            expected.push(Owned::Frame(channel, payload));
        }
        if !tail.is_empty() {
            line.extend_from_slice(&tail);
            expected.push(Owned::Text(tail));
        }
        prop_assert_eq!(take_apart(&line), expected);
    }

    #[test]
    fn a_frame_holds_no_zero_but_its_delimiters(channel in channel(), payload in payload()) {
        let bytes = frame_bytes(channel, &payload);
        prop_assert!(bytes.len() <= MAX_FRAME_BYTES);
        prop_assert_eq!(bytes.iter().filter(|byte| **byte == 0).count(), 2);
        prop_assert_eq!((bytes[0], bytes[bytes.len() - 1]), (0, 0));
    }

    #[test]
    fn damage_never_becomes_a_frame_and_the_next_but_one_is_found(
        channel in channel(),
        payload in payload(),
        position in any::<prop::sample::Index>(),
        flip in 1u8..=255,
    ) {
        let mut bytes = frame_bytes(channel, &payload);
        let at = position.index(bytes.len());
        bytes[at] ^= flip;
        let good = Owned::Frame(Channel::Log(7), b"after".to_vec());
        for _ in 0..2 {
            bytes.extend(frame_bytes(Channel::Log(7), b"after"));
        }
        let found = take_apart(&bytes);
        for item in &found {
            if let Owned::Frame(found_channel, found_payload) = item {
                let is_sent = (*found_channel == channel && *found_payload == payload) || *item == good;
                prop_assert!(is_sent, "invented {:?}", item);
            }
        }
        prop_assert_eq!(found.last(), Some(&good));
    }

    #[test]
    fn bytes_lost_or_added_never_become_a_frame(
        payload in payload(),
        position in any::<prop::sample::Index>(),
        lost in 1usize..40,
        added in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        let mut bytes = frame_bytes(Channel::Management, &payload);
        let from = position.index(bytes.len());
        let to = (from + lost).min(bytes.len());
        bytes.splice(from..to, added);
        bytes.extend(frame_bytes(Channel::Management, b"one"));
        bytes.extend(frame_bytes(Channel::Management, b"two"));
        let found = take_apart(&bytes);
        for item in &found {
            if let Owned::Frame(Channel::Management, found) = item {
                prop_assert!(*found == payload || found == b"one" || found == b"two");
            } else {
                prop_assert!(!matches!(item, Owned::Frame(..)));
            }
        }
        prop_assert_eq!(found.last(), Some(&Owned::Frame(Channel::Management, b"two".to_vec())));
    }

    #[test]
    fn any_bytes_are_taken_without_a_panic_and_none_but_delimiters_is_lost(
        bytes in proptest::collection::vec(prop_oneof![3 => any::<u8>(), 1 => Just(0u8)], 0..3000),
    ) {
        let kept: usize = take_apart(&bytes)
            .iter()
            .map(|item| match item {
                Owned::Text(bytes) | Owned::Noise(bytes) => bytes.len(),
                Owned::Frame(..) => panic!("random bytes made a frame"),
            })
            .sum();
        prop_assert_eq!(kept, bytes.iter().filter(|byte| **byte != 0).count());
    }

    #[test]
    fn a_short_buffer_is_refused_and_holds_no_frame(payload in payload(), short in 0usize..MAX_FRAME_BYTES) {
        let mut out = vec![1; short];
        match encode(Channel::Management, &payload, &mut out) {
            Ok(len) => prop_assert_eq!(
                take_apart(&out[..len]),
                vec![Owned::Frame(Channel::Management, payload)]
            ),
            Err(error) => prop_assert_eq!(error, EncodeError::BufferTooShort(short)),
        }
    }
}

#[test]
fn text_of_a_panic_after_an_unfinished_frame_is_seen() {
    let mut bytes = frame_bytes(Channel::Log(1), b"cut off here");
    bytes.truncate(9);
    bytes.extend_from_slice(b"\nkernel panic: it broke\n");
    let found = take_apart(&bytes);
    let Some(Owned::Noise(noise)) = found.last() else {
        panic!("{found:?}");
    };
    assert!(noise.ends_with(b"\nkernel panic: it broke\n"));
}

#[test]
fn what_does_not_fit_is_refused_with_its_size() {
    let mut out = [0; MAX_FRAME_BYTES];
    assert_eq!(
        encode(Channel::Management, &[1; MAX_PAYLOAD_BYTES + 1], &mut out),
        Err(EncodeError::PayloadTooLong(MAX_PAYLOAD_BYTES + 1))
    );
    let wrong = Channel::Console { guest: 32, port: 0 };
    assert_eq!(
        encode(wrong, b"", &mut out),
        Err(EncodeError::NoSuchChannel(wrong))
    );
    assert_eq!(
        encode(Channel::Log(1), &[0xff; MAX_PAYLOAD_BYTES], &mut out),
        Ok(MAX_FRAME_BYTES)
    );
}

/// The longest body there is: no zero in it, so every group of 254 costs a code byte.
#[test]
fn the_longest_frame_is_a_frame() {
    let channel = Channel::Management;
    for byte in [0xff, 1, 0] {
        let payload = vec![byte; MAX_PAYLOAD_BYTES];
        let found = take_apart(&frame_bytes(channel, &payload));
        assert_eq!(found, [Owned::Frame(channel, payload)], "{byte}");
    }
}
