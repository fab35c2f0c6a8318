//! Parquet, uncompressed: every reader can open it.
//!
//! # Source
//! Apache Parquet format: `UTF8` text, `INT64` (unsigned for seeds), `DOUBLE`.
use std::fs::File;
use std::io::BufWriter;
use std::sync::Arc;

use parquet::basic::{LogicalType, Repetition, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::{ParquetError, Result};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::Type;

use super::{Column, Field, Kind, Table};

/// Rows kept in memory at a time.
const GROUP_ROWS: usize = 65_536;

/// Writes the whole file.
pub(super) fn write<R, I: Iterator<Item = R> + Clone>(
    writer: &mut BufWriter<File>,
    table: &Table<R, I>,
) -> Result<()> {
    let properties = Arc::new(WriterProperties::builder().build());
    let mut file = SerializedFileWriter::new(writer, Arc::new(schema(table)?), properties)?;
    let mut rows = table.rows.clone();
    loop {
        let group: Vec<R> = rows.by_ref().take(GROUP_ROWS).collect();
        if group.is_empty() {
            break;
        }
        let mut group_writer = file.next_row_group()?;
        for column in &table.columns {
            let mut column_writer = group_writer
                .next_column()?
                .ok_or_else(|| ParquetError::General("a column too few".to_owned()))?;
            write_column(&mut column_writer, column, &group)?;
            column_writer.close()?;
        }
        group_writer.close()?;
    }
    file.close()?;
    Ok(())
}

fn schema<R, I>(table: &Table<R, I>) -> Result<Type> {
    let fields = table.columns.iter().map(field).collect::<Result<_>>()?;
    Type::group_type_builder(table.name).with_fields(fields).build()
}

fn field<R>(column: &Column<R>) -> Result<Arc<Type>> {
    let (physical, logical) = match column.kind {
        Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        Kind::Seed => (Physical::INT64, Some(LogicalType::integer(64, false))),
        Kind::Count => (Physical::INT64, None),
        Kind::Number => (Physical::DOUBLE, None),
    };
    let repetition = if column.optional { Repetition::OPTIONAL } else { Repetition::REQUIRED };
    let builder = Type::primitive_type_builder(column.name, physical);
    Ok(Arc::new(builder.with_logical_type(logical).with_repetition(repetition).build()?))
}

fn write_column<R>(writer: &mut SerializedColumnWriter<'_>, column: &Column<R>, rows: &[R]) -> Result<()> {
    match column.kind {
        Kind::Text => write_values::<R, ByteArrayType>(writer, column, rows, bytes),
        Kind::Seed | Kind::Count => write_values::<R, Int64Type>(writer, column, rows, integer),
        Kind::Number => write_values::<R, DoubleType>(writer, column, rows, number),
    }
}

fn bytes(field: Field<'_>) -> Option<ByteArray> {
    match field {
        Field::Text(text) => Some(ByteArray::from(text.as_bytes().to_vec())),
        _ => None,
    }
}

fn integer(field: Field<'_>) -> Option<i64> {
    match field {
        // The same 64 bits; the schema says that they are unsigned.
        Field::Seed(seed) => Some(seed.cast_signed()),
        Field::Count(count) => Some(count),
        _ => None,
    }
}

fn number(field: Field<'_>) -> Option<f64> {
    match field {
        // There are many bit patterns that are not a number, and machines differ in which they make.
        Field::Number(number) => Some(if number.is_nan() { f64::NAN } else { number }),
        _ => None,
    }
}

fn write_values<R, T: DataType>(
    writer: &mut SerializedColumnWriter<'_>,
    column: &Column<R>,
    rows: &[R],
    value: fn(Field<'_>) -> Option<T::T>,
) -> Result<()> {
    let mut values = Vec::with_capacity(rows.len());
    let mut levels = Vec::new();
    for row in rows {
        let value = value((column.read)(row));
        if column.optional {
            levels.push(i16::from(value.is_some()));
        }
        values.extend(value);
    }
    writer.typed::<T>().write_batch(&values, column.optional.then_some(&levels[..]), None)?;
    Ok(())
}
