//! Comma-separated values.
//!
//! # Source
//! RFC 4180. Numbers are the shortest that read back as the same; what is absent is empty.
use std::io::{self, Write};

use super::{Field, Table};

/// Writes a header and the rows.
pub(super) fn write<R, I: Iterator<Item = R> + Clone>(
    writer: &mut impl Write,
    table: &Table<R, I>,
) -> io::Result<()> {
    for (i, column) in table.columns.iter().enumerate() {
        separate(writer, i)?;
        text(writer, column.name)?;
    }
    writer.write_all(b"\r\n")?;
    for row in table.rows.clone() {
        for (i, column) in table.columns.iter().enumerate() {
            separate(writer, i)?;
            match (column.read)(&row) {
                Field::Text(value) => text(writer, value)?,
                Field::Seed(value) => write!(writer, "{value}")?,
                Field::Count(value) => write!(writer, "{value}")?,
                Field::Number(value) => write!(writer, "{value:?}")?,
                Field::Absent => {}
            }
        }
        writer.write_all(b"\r\n")?;
    }
    Ok(())
}

fn separate(writer: &mut impl Write, column: usize) -> io::Result<()> {
    if column > 0 { writer.write_all(b",") } else { Ok(()) }
}

/// Quoted where it must be; a quote inside is written twice.
fn text(writer: &mut impl Write, value: &str) -> io::Result<()> {
    if !value.contains(['"', ',', '\r', '\n']) {
        return writer.write_all(value.as_bytes());
    }
    write!(writer, "\"{}\"", value.replace('"', "\"\""))
}
