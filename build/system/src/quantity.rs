//! Sizes and durations as people write them.

/// Bytes of a MiB.
pub const MIB: u64 = 1024 * 1024;

/// Reads `"512MiB"` or `"4GiB"` into bytes.
///
/// # Errors
/// What would be right.
pub fn size_bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let unit_bytes = match unit {
        "KiB" => 1024,
        "MiB" => MIB,
        "GiB" => 1024 * MIB,
        "" => return Err("write the unit: KiB, MiB or GiB, as in `\"512MiB\"`".to_owned()),
        "K" | "k" | "KB" | "kB" => return Err(format!("write `\"{number}KiB\"`")),
        "M" | "m" | "MB" => return Err(format!("write `\"{number}MiB\"`")),
        "G" | "g" | "GB" => return Err(format!("write `\"{number}GiB\"`")),
        _ => return Err("a number and KiB, MiB or GiB, as in `\"512MiB\"`".to_owned()),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit_bytes))
        .ok_or_else(|| "a whole number and KiB, MiB or GiB, as in `\"512MiB\"`".to_owned())
}

/// Reads `"1500ms"` or `"2s"` into milliseconds.
///
/// # Errors
/// What would be right.
pub fn duration_ms(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1000,
        _ => return Err("a whole number and `ms` or `s`, as in `\"2s\"`".to_owned()),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit_ms))
        .ok_or_else(|| "a whole number and `ms` or `s`, as in `\"2s\"`".to_owned())
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let at = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    (number, unit.trim())
}

/// Shows bytes in the largest unit that divides them.
#[must_use]
pub fn show_bytes(bytes: u64) -> String {
    if bytes > 0 && bytes.is_multiple_of(1024 * MIB) {
        format!("{}GiB", bytes / (1024 * MIB))
    } else if bytes.is_multiple_of(MIB) {
        format!("{}MiB", bytes / MIB)
    } else {
        format!("{}KiB", bytes / 1024)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size_bytes("512MiB"), Ok(512 * MIB));
        assert_eq!(size_bytes("4 GiB"), Ok(4096 * MIB));
        assert_eq!(size_bytes("0KiB"), Ok(0));
        for (text, hint) in [
            ("512", "unit"),
            ("512MB", "512MiB"),
            ("4G", "4GiB"),
            ("MiB", "whole number"),
            ("99999999999999999999GiB", "whole number"),
            ("1.5GiB", "a number"),
            ("-1MiB", "a number"),
        ] {
            let error = size_bytes(text).unwrap_err();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration_ms("1500ms"), Ok(1500));
        assert_eq!(duration_ms("2s"), Ok(2000));
        assert!(duration_ms("2").is_err());
        assert!(duration_ms("2min").is_err());
    }

    #[test]
    fn what_is_shown_is_read_back() {
        for bytes in [2 * MIB, 1024 * MIB, 1536 * MIB, 4096, 0] {
            assert_eq!(size_bytes(&show_bytes(bytes)), Ok(bytes));
        }
    }
}
