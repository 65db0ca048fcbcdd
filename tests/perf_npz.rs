//! Planner profiles: read in every form NumPy writes them in, interpolated as the reference does, and refused by name of the
//! array when they are bad.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{Cursor, Write as _};
use std::path::Path;

use dynosim::perf::{NpzProfile, PerfError};
use proptest::prelude::*;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// An array as a `.npy` file.
fn npy(descr: &str, fortran: bool, shape: &str, data: Vec<u8>) -> Vec<u8> {
    let order = if fortran { "True" } else { "False" };
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}").into_bytes();
    header.resize((header.len() + 11).next_multiple_of(64) - 11, b' ');
    header.push(b'\n');
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header);
    file.extend(data);
    file
}

fn f8(shape: &str, values: &[f64]) -> Vec<u8> {
    npy("<f8", false, shape, values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

fn archive(method: CompressionMethod, members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        let options = SimpleFileOptions::default().compression_method(method);
        writer.start_file(format!("{name}.npy"), options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// The profile of the fixture `npz_interpolated`.
fn members() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("prefill_isl", f8("(3,)", &[100.0, 500.0, 2000.0])),
        ("prefill_ttft_ms", f8("(3,)", &[10.0, 30.0, 150.0])),
        ("decode_active_kv_tokens", f8("(3,)", &[0.0, 1000.0, 4000.0])),
        ("decode_context_length", f8("(3,)", &[100.0, 1000.0, 3000.0])),
        ("decode_itl", f8("(3, 3)", &[2.0, 3.0, 5.0, 4.0, 6.0, 9.0, 8.0, 12.0, 20.0])),
    ]
}

fn with(name: &str, bytes: Vec<u8>) -> Vec<(&'static str, Vec<u8>)> {
    let mut members = members();
    members.iter_mut().find(|(member, _)| *member == name).unwrap().1 = bytes;
    members
}

fn parse(members: &[(&str, Vec<u8>)]) -> Result<NpzProfile, PerfError> {
    NpzProfile::parse(&archive(CompressionMethod::Deflated, members), "profile.npz")
}

#[test]
fn times_are_linear_within_and_beyond_the_axes() {
    let profile = parse(&members()).unwrap();
    for (tokens, ms) in [(100, 10.0), (300, 20.0), (700, 46.0), (2000, 150.0), (50, 7.5), (0, 5.0), (2500, 190.0)] {
        assert!((profile.prefill_ms(tokens) - ms).abs() < 1e-12, "{tokens}: {}", profile.prefill_ms(tokens));
    }
    for (active, context, ms) in [
        (0, 100, 2.0),
        (4000, 3000, 20.0),
        (500, 100, 3.0),
        (500, 550, 3.75),
        // 500 of 3000 KV tokens on: 14/3 and 7; 1/4 of the way between the contexts.
        (1500, 325, 14.0 / 3.0 + (7.0 - 14.0 / 3.0) / 4.0),
        // Beyond all edges the last segments go on: 28/3 and 14 at 5000 KV tokens, 15.2 ... at context 3500.
        (5000, 50, 28.0 / 3.0 - (14.0 - 28.0 / 3.0) / 18.0),
        (5000, 3500, 14.0 + (71.0 / 3.0 - 14.0) * 1.25),
    ] {
        let found = profile.decode_ms(active, context);
        assert!((found - ms).abs() < 1e-12, "{active} {context}: {found} instead of {ms}");
    }
    assert!(profile.covers_prefill(100) && profile.covers_prefill(2000) && !profile.covers_prefill(99));
    assert!(profile.covers_decode(0, 3000) && !profile.covers_decode(4001, 100) && !profile.covers_decode(0, 99));
}

#[test]
fn stored_and_deflated_files_both_orders_and_other_numbers_are_the_same_profile() {
    let expected = parse(&members()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("profile.npz");
    fs::write(&path, archive(CompressionMethod::Stored, &members())).unwrap();
    assert_eq!(NpzProfile::open(&path).unwrap(), expected);

    let transposed = [2.0f64, 4.0, 8.0, 3.0, 6.0, 12.0, 5.0, 9.0, 20.0].map(f64::to_le_bytes).concat();
    assert_eq!(parse(&with("decode_itl", npy("<f8", true, "(3, 3)", transposed))).unwrap(), expected);
    let axis = "decode_context_length";
    for (descr, data) in [
        ("<f4", [100f32, 1000.0, 3000.0].map(f32::to_le_bytes).concat()),
        ("<i4", [100i32, 1000, 3000].map(i32::to_le_bytes).concat()),
        ("<i8", [100i64, 1000, 3000].map(i64::to_le_bytes).concat()),
        (">f8", [100f64, 1000.0, 3000.0].map(f64::to_be_bytes).concat()),
    ] {
        assert_eq!(parse(&with(axis, npy(descr, false, "(3,)", data))).unwrap(), expected, "{descr}");
    }
    let mut more = members();
    more.push(("notes", npy("|O", false, "(1,)", vec![0; 8])));
    assert_eq!(parse(&more).unwrap(), expected);
}

#[test]
fn a_bad_profile_is_an_error_that_names_array_and_fault() {
    for (array, bytes, fault) in [
        ("prefill_isl", f8("(1,)", &[100.0]), "has 1 entries"),
        ("prefill_isl", f8("(3,)", &[100.0, 100.0, 2000.0]), "entry 1 is 100 after 100"),
        ("prefill_isl", f8("(3,)", &[100.0, 500.0, 200.0]), "entry 2 is 200 after 500"),
        ("prefill_isl", f8("(3, 1)", &[100.0, 500.0, 2000.0]), "has shape (3, 1)"),
        ("prefill_ttft_ms", f8("(2,)", &[10.0, 30.0]), "has shape (2,); give shape (3,), the lengths of prefill_isl"),
        ("prefill_ttft_ms", f8("(3,)", &[10.0, f64::NAN, 30.0]), "entry 1 is NaN"),
        ("decode_active_kv_tokens", f8("(3,)", &[0.0, 1000.0, f64::INFINITY]), "entry 2 is inf"),
        ("decode_context_length", npy("<c16", false, "(3,)", vec![0; 48]), "has type `<c16`"),
        ("decode_itl", f8("(9,)", &[1.0; 9]), "has shape (9,); give shape (3, 3)"),
        ("decode_itl", f8("()", &[1.0]), "has shape ()"),
        ("decode_itl", f8("(3, 3)", &[1.0; 8]), "holds 64 bytes of numbers"),
        ("decode_itl", b"no array".to_vec(), "is not a NumPy array"),
    ] {
        let error = parse(&with(array, bytes)).unwrap_err().to_string();
        assert!(error.starts_with(&format!("profile.npz, `{array}`: ")) && error.contains(fault), "{error}");
    }
    for index in 0..5 {
        let mut members = members();
        let (array, _) = members.remove(index);
        let error = parse(&members).unwrap_err().to_string();
        assert!(error.starts_with(&format!("profile.npz, `{array}`: is missing")), "{error}");
    }
    let bytes = archive(CompressionMethod::Deflated, &members());
    for bytes in [&b"no archive"[..], &[], &bytes[..bytes.len() / 2]] {
        let error = NpzProfile::parse(bytes, "profile.npz").unwrap_err().to_string();
        assert!(error.starts_with("profile.npz: is not a readable zip archive"), "{error}");
    }
    let error = NpzProfile::open(Path::new("no/such/profile.npz")).unwrap_err().to_string();
    assert!(error.starts_with("cannot read no/such/profile.npz"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    /// Whatever happens to the bytes of a profile, it is read or refused.
    #[test]
    fn damaged_profiles_never_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
                                    cut in any::<prop::sample::Index>(), cuts in any::<bool>(), stored in any::<bool>()) {
        let method = if stored { CompressionMethod::Stored } else { CompressionMethod::Deflated };
        let mut bytes = archive(method, &members());
        for (index, byte) in changes {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        if cuts {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(profile) = NpzProfile::parse(&bytes, "damaged.npz") {
            for n in [0, 7, u64::MAX] {
                let _ = (profile.prefill_ms(n), profile.decode_ms(n, n));
            }
        }
    }

    /// A damaged array inside a sound archive, where no checksum catches it, is read or refused.
    #[test]
    fn damaged_arrays_never_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
                                  array in 0usize..5, shorter in 0usize..200) {
        let mut members = members();
        let bytes = &mut members[array].1;
        for (index, byte) in changes {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        bytes.truncate(bytes.len().saturating_sub(shorter / 2));
        if let Err(error) = parse(&members) {
            prop_assert!(error.to_string().starts_with("profile.npz, `"), "{}", error);
        }
    }
}
