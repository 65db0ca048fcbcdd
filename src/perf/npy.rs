//! Arrays of plain numbers in NumPy's `.npy` format, versions 1 to 3.
//!
//! A file is a magic string, a header that is one Python dictionary such as
//! `{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }`, and the raw numbers.

/// What every `.npy` file begins with.
const MAGIC: &[u8] = b"\x93NUMPY";
/// Longest header read; that of a plain array has about 120 bytes.
const LONGEST_HEADER: usize = 64 << 10;
/// Most dimensions read.
const MOST_DIMENSIONS: usize = 32;

/// A fault of an array, for a caller who knows its name and file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub cause: String,
    pub cure: &'static str,
}

/// Numbers of an array, converted to `f64`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Array {
    /// Length of each dimension.
    pub shape: Vec<usize>,
    /// In C order: the last dimension is contiguous.
    pub values: Vec<f64>,
}

/// A type of number, little- or big-endian.
#[derive(Debug, Clone, Copy)]
struct Number {
    kind: Kind,
    big_endian: bool,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    F8,
    F4,
    I8,
    I4,
}

impl Array {
    /// Reads the array from the bytes of a file.
    pub fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let (header, data) = split(bytes)?;
        let number = Number::parse(&header.descr)?;
        let expected = header.shape.iter().try_fold(number.size(), |size, length| size.checked_mul(*length));
        if expected != Some(data.len()) {
            let cause = format!("holds {} bytes of numbers, which is not what its shape says", data.len());
            return Err(Fault { cause, cure: "write the file again, it is truncated or damaged" });
        }
        let stored: Vec<f64> = data.chunks_exact(number.size()).map(|bytes| number.read(bytes)).collect();
        let values = if header.fortran_order { to_c_order(&stored, &header.shape) } else { stored };
        Ok(Self { shape: header.shape, values })
    }
}

/// Values stored with the first dimension contiguous, with the last one contiguous instead.
fn to_c_order(stored: &[f64], shape: &[usize]) -> Vec<f64> {
    let mut index = vec![0; shape.len()];
    (0..stored.len())
        .map(|_| {
            let offset = index.iter().zip(shape).rev().fold(0, |offset, (i, length)| offset * length + i);
            for (i, length) in index.iter_mut().zip(shape).rev() {
                *i += 1;
                if *i < *length {
                    break;
                }
                *i = 0;
            }
            stored[offset]
        })
        .collect()
}

impl Number {
    /// The type NumPy describes by `descr`, such as `<f8`.
    fn parse(descr: &str) -> Result<Self, Fault> {
        let (big_endian, name) = match descr.as_bytes().first() {
            Some(b'<' | b'=') => (false, &descr[1..]),
            Some(b'>') => (true, &descr[1..]),
            _ => (false, descr),
        };
        let kind = match name {
            "f8" => Kind::F8,
            "f4" => Kind::F4,
            "i8" => Kind::I8,
            "i4" => Kind::I4,
            _ => {
                let cause = format!("has type `{descr}`");
                return Err(Fault { cause, cure: "convert it to float64; float32, int64 and int32 are read too" });
            }
        };
        Ok(Self { kind, big_endian })
    }

    /// Bytes of one number.
    fn size(self) -> usize {
        match self.kind {
            Kind::F8 | Kind::I8 => 8,
            Kind::F4 | Kind::I4 => 4,
        }
    }

    /// The number in `bytes`, of which there are [`Number::size`].
    fn read(self, bytes: &[u8]) -> f64 {
        let bits = bytes.iter().enumerate().fold(0u64, |bits, (index, byte)| {
            let place = if self.big_endian { bytes.len() - 1 - index } else { index };
            bits | u64::from(*byte) << (8 * place)
        });
        match self.kind {
            Kind::F8 => f64::from_bits(bits),
            Kind::F4 => f64::from(f32::from_bits(bits as u32)),
            Kind::I8 => bits as i64 as f64,
            Kind::I4 => f64::from(bits as u32 as i32),
        }
    }
}

struct Header {
    descr: String,
    fortran_order: bool,
    shape: Vec<usize>,
}

/// The header of a file, and the bytes after it.
fn split(bytes: &[u8]) -> Result<(Header, &[u8]), Fault> {
    let damaged = |cause: &str| Fault { cause: cause.to_owned(), cure: "write the file again with NumPy" };
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| damaged("is not a NumPy array"))?;
    let (length, rest) = match rest {
        [1, _, a, b, rest @ ..] => (usize::from(u16::from_le_bytes([*a, *b])), rest),
        [2 | 3, _, a, b, c, d, rest @ ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, rest),
        [1..=3, ..] | [] => return Err(damaged("ends in its header")),
        [version, ..] => return Err(damaged(&format!("has NumPy format version {version}, not 1, 2 or 3"))),
    };
    if length > LONGEST_HEADER {
        return Err(damaged(&format!("has a header of {length} bytes")));
    }
    let (text, data) = rest.split_at_checked(length).ok_or_else(|| damaged("ends in its header"))?;
    let text = std::str::from_utf8(text).map_err(|_| damaged("has a header that is not text"))?;
    match Parser(text).header() {
        Some(header) => Ok((header, data)),
        None => Err(damaged(&format!("has a header that is not understood: {}", text.trim()))),
    }
}

/// Reads the few forms of Python literals that headers of plain arrays use.
struct Parser<'a>(&'a str);

impl<'a> Parser<'a> {
    fn header(mut self) -> Option<Header> {
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        self.expect("{")?;
        while self.expect("}").is_none() {
            let key = self.string()?;
            self.expect(":")?;
            match key {
                // A record type is a list; no plain numbers then, but a name for the error.
                "descr" if self.starts_with("[") => descr = Some(self.list()?),
                "descr" => descr = Some(self.string()?.to_owned()),
                "fortran_order" => fortran_order = Some(self.boolean()?),
                "shape" => shape = Some(self.shape()?),
                _ => return None,
            }
            if self.expect(",").is_none() && !self.starts_with("}") {
                return None;
            }
        }
        self.0.trim().is_empty().then_some(Header { descr: descr?, fortran_order: fortran_order?, shape: shape? })
    }

    fn starts_with(&mut self, token: &str) -> bool {
        self.0 = self.0.trim_start();
        self.0.starts_with(token)
    }

    fn expect(&mut self, token: &str) -> Option<()> {
        self.0 = self.0.trim_start();
        self.0 = self.0.strip_prefix(token)?;
        Some(())
    }

    fn string(&mut self) -> Option<&'a str> {
        self.0 = self.0.trim_start();
        let quote = self.0.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        let (text, rest) = self.0[1..].split_once(quote)?;
        self.0 = rest;
        Some(text)
    }

    fn list(&mut self) -> Option<String> {
        let end = self.0.rfind(']')?;
        let (text, rest) = self.0.split_at(end + 1);
        self.0 = rest;
        Some(text.to_owned())
    }

    fn boolean(&mut self) -> Option<bool> {
        if self.expect("True").is_some() {
            return Some(true);
        }
        self.expect("False").map(|()| false)
    }

    fn shape(&mut self) -> Option<Vec<usize>> {
        self.expect("(")?;
        let mut shape = Vec::new();
        while self.expect(")").is_none() {
            self.0 = self.0.trim_start();
            let end = self.0.find(|c: char| !c.is_ascii_digit())?;
            let (digits, rest) = self.0.split_at(end);
            shape.push(digits.parse().ok()?);
            self.0 = rest;
            if shape.len() > MOST_DIMENSIONS || (self.expect(",").is_none() && !self.starts_with(")")) {
                return None;
            }
        }
        Some(shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([1, 0]);
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn both_orders_and_all_number_types_read_alike() {
        let c = "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }  \n";
        let data: Vec<u8> = [1.0f64, 2.0, 3.0, 4.0, 5.0, -6.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        let expected = Array { shape: vec![2, 3], values: vec![1.0, 2.0, 3.0, 4.0, 5.0, -6.0] };
        assert_eq!(Array::parse(&file(c, &data)), Ok(expected.clone()));

        let fortran = "{'shape': (2,3), 'fortran_order': True, 'descr': '>i4'}";
        let data: Vec<u8> = [1i32, 4, 2, 5, 3, -6].iter().flat_map(|v| v.to_be_bytes()).collect();
        assert_eq!(Array::parse(&file(fortran, &data)), Ok(expected.clone()));

        for (descr, data) in [
            ("<f4", [1f32, 2.0, 3.0, 4.0, 5.0, -6.0].map(f32::to_le_bytes).concat()),
            (">i8", [1i64, 2, 3, 4, 5, -6].map(i64::to_be_bytes).concat()),
        ] {
            let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (2, 3), }}");
            assert_eq!(Array::parse(&file(&header, &data)), Ok(expected.clone()), "{descr}");
        }
    }

    #[test]
    fn hostile_headers_are_refused() {
        for (header, cause) in [
            (
                "{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 4294967296), }",
                "not what its shape says",
            ),
            ("{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999999999,), }", "not understood"),
            ("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", "type `|O`"),
            ("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,), }", "type `[('a', '<f8')]`"),
            ("{'descr': '<f8', 'fortran_order': False}", "not understood"),
            ("{'descr': '<f8', 'fortran_order': False, 'shape': (1,), } x", "not understood"),
        ] {
            let fault = Array::parse(&file(header, &[0; 8])).unwrap_err();
            assert!(fault.cause.contains(cause), "{header}: {}", fault.cause);
        }
        assert!(Array::parse(b"\x93NUMPY\x02\x00\xff\xff\xff\xff").unwrap_err().cause.contains("header of 4294967295"));
    }
}
