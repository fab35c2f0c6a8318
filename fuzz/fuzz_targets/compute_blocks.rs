//! Quantised blocks of GGUF files and canonical tiles: any bytes give a matrix in its one canonical form, or an error. The first
//! two bytes choose what the rest is and how wide.
#![no_main]

use dn_compute::spec::QuantMatrix;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [which, width, bytes @ ..] = data else { return };
    let units = usize::from(width % 4) + 1;
    // Columns and bytes of as many blocks, then as many rows as there are bytes for.
    let (cols, row) = match which % 6 {
        0 => (32 * units, 34 * units),
        1 => (32 * units, 18 * units),
        2 => (256 * units, 144 * units),
        3 => (256 * units, 176 * units),
        4 => (256 * units, 210 * units),
        _ => (usize::from(*width) + 1, 1),
    };
    let rows = (bytes.len() / row).max(1);
    let bytes = &bytes[..bytes.len().min(rows * row)];
    let matrix = match which % 6 {
        0 => QuantMatrix::from_q8_0(rows, cols, bytes),
        1 => QuantMatrix::from_q4_0(rows, cols, bytes),
        2 => QuantMatrix::from_q4_k(rows, cols, bytes),
        3 => QuantMatrix::from_q5_k(rows, cols, bytes),
        4 => QuantMatrix::from_q6_k(rows, cols, bytes),
        _ => QuantMatrix::from_tile_bytes(usize::from(which / 6) + 1, cols, bytes),
    };
    let Ok(matrix) = matrix else { return };
    let tile = matrix.tile_bytes(0..matrix.rows());
    let again = QuantMatrix::from_tile_bytes(matrix.rows(), matrix.cols(), &tile);
    assert_eq!(again.as_ref(), Ok(&matrix));
    for (row, col) in [(0, 0), (matrix.rows() - 1, matrix.cols() - 1)] {
        assert!(matrix.value(row, col).abs() < 2f64.powi(123));
    }
});
