//! Files for people and programs: CSV, Parquet, SVG, one HTML page.
