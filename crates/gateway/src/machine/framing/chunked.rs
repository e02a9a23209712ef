//! Following chunked transfer coding byte by byte (RFC 9112 §7.1).

use super::{Refusal, parse};

/// Bytes of extensions on one chunk line. Nobody sends them; a peer that sends many attacks.
const EXTENSION_BYTES_MAX: usize = 128;
/// Digits of a chunk size: 2^60 bytes, so the value cannot overflow.
const SIZE_DIGITS_MAX: u32 = 15;

/// What only a head may say; a trailer that repeats it is an attempt to be read twice.
const FORBIDDEN_TRAILERS: [&str; 12] = [
    "transfer-encoding",
    "content-length",
    "content-encoding",
    "content-type",
    "content-range",
    "host",
    "connection",
    "authorization",
    "cookie",
    "set-cookie",
    "te",
    "trailer",
];

#[derive(Clone, Debug)]
enum Place {
    Size {
        value: u64,
        digits: u32,
    },
    Extension {
        size: u64,
        bytes: usize,
    },
    SizeEnd {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    /// The trailer section so far, with the empty line that ends it.
    Trailer(Vec<u8>),
}

/// How the coding went on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    More,
    Done,
    Refused(Refusal),
}

#[derive(Clone, Debug)]
pub(super) struct Chunked {
    place: Place,
}

impl Chunked {
    pub(super) const fn new() -> Self {
        Self { place: Place::Size { value: 0, digits: 0 } }
    }

    /// Goes over the input; says how many of its bytes belong to this body and are in order.
    pub(super) fn advance(&mut self, input: &[u8], trailer_bytes: usize) -> (usize, Progress) {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            if let Place::Data { left } = &mut self.place {
                let rest = input.len() - at;
                let bytes = usize::try_from(*left).unwrap_or(usize::MAX).min(rest);
                *left -= bytes as u64;
                at += bytes;
                if *left == 0 {
                    self.place = Place::DataCr;
                }
                continue;
            }
            match self.byte(byte, trailer_bytes) {
                Progress::More => at += 1,
                Progress::Done => return (at + 1, Progress::Done),
                Progress::Refused(refusal) => return (at, Progress::Refused(refusal)),
            }
        }
        (at, Progress::More)
    }

    fn byte(&mut self, byte: u8, trailer_bytes: usize) -> Progress {
        let next = match (&mut self.place, byte) {
            (Place::Size { value, digits }, byte) => match char::from(byte).to_digit(16) {
                Some(digit) if *digits < SIZE_DIGITS_MAX => {
                    Some(Place::Size { value: *value << 4 | u64::from(digit), digits: *digits + 1 })
                }
                Some(_) => None,
                None if *digits == 0 => None,
                None => match byte {
                    b'\r' => Some(Place::SizeEnd { size: *value }),
                    b';' => Some(Place::Extension { size: *value, bytes: 0 }),
                    _ => None,
                },
            },
            (Place::Extension { size, .. }, b'\r') => Some(Place::SizeEnd { size: *size }),
            (Place::Extension { size, bytes }, b'\t' | 0x20..=0x7e | 0x80..)
                if *bytes < EXTENSION_BYTES_MAX =>
            {
                Some(Place::Extension { size: *size, bytes: *bytes + 1 })
            }
            (Place::SizeEnd { size: 0 }, b'\n') => Some(Place::Trailer(Vec::new())),
            (Place::SizeEnd { size }, b'\n') => Some(Place::Data { left: *size }),
            (Place::DataCr, b'\r') => Some(Place::DataLf),
            (Place::DataLf, b'\n') => Some(Place::Size { value: 0, digits: 0 }),
            (Place::Trailer(section), byte) => {
                section.push(byte);
                return trailer(section, trailer_bytes);
            }
            (
                Place::Extension { .. }
                | Place::SizeEnd { .. }
                | Place::Data { .. }
                | Place::DataCr
                | Place::DataLf,
                _,
            ) => None,
        };
        match next {
            Some(next) => {
                self.place = next;
                Progress::More
            }
            None => Progress::Refused(Refusal::Chunk),
        }
    }
}

fn trailer(section: &[u8], limit: usize) -> Progress {
    let ended = section == b"\r\n" || section.ends_with(b"\r\n\r\n");
    if !ended {
        return if section.len() < limit {
            Progress::More
        } else {
            Progress::Refused(Refusal::Trailer)
        };
    }
    let body = section.strip_suffix(b"\r\n").unwrap_or_default();
    for line in body.split(|it| *it == b'\n').filter(|it| !it.is_empty()) {
        let Some(line) = line.strip_suffix(b"\r") else {
            return Progress::Refused(Refusal::Trailer);
        };
        let fine = parse::field(line).is_ok_and(|(name, _)| {
            let internal = name.len() >= 12
                && name.get(..12).is_some_and(|it| it.eq_ignore_ascii_case(b"x-tradewind-"));
            !internal
                && !FORBIDDEN_TRAILERS.iter().any(|it| name.eq_ignore_ascii_case(it.as_bytes()))
        });
        if !fine {
            return Progress::Refused(Refusal::Trailer);
        }
    }
    Progress::Done
}
