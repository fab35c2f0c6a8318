use serde_json::json;

use super::*;

#[test]
fn a_path_leads_to_the_entry() {
    let document = json!({ "a": { "b": [[1], [2, "x"]] } });
    let root = Node::root(&document);
    assert_eq!(root.path().to_string(), "the document");
    let a = root.field("a").unwrap();
    let b = a.field("b").unwrap();
    let row = b.items().unwrap().nth(1).unwrap();
    let entry = row.items().unwrap().nth(1).unwrap();
    assert_eq!(entry.path().to_string(), "a.b[1][1]");
    assert_eq!(entry.number().unwrap_err().to_string(), "a.b[1][1]: \"x\", expected a finite decimal number");
    assert_eq!(row.exactly(4).err().unwrap().to_string(), "a.b[1]: 2 entries, expected 4");
    assert_eq!(a.field("c").unwrap_err().to_string(), "a.c: missing");
    assert_eq!(a.keys(&["d"]).unwrap_err().to_string(), "a.b: unknown key, expected one of d");
    assert_eq!(b.length(1).unwrap_err().to_string(), "a.b: 2 entries, at most 1");
    assert_eq!(root.items().err().unwrap().to_string(), "the document: an object, expected a list");
}

#[test]
fn numbers_come_in_both_forms() {
    let number = |value| Node::root(&value).number();
    assert_eq!(number(json!("-1.5e2")), Ok(-150.0));
    assert_eq!(number(json!(0.1)), number(json!("0.1")));
    for bad in [json!("NaN"), json!("inf"), json!(" 1"), json!(""), json!("1e999"), json!("1".repeat(65))] {
        assert!(matches!(number(bad), Err(DocumentError::Number { .. })));
    }
    assert!(matches!(number(json!(null)), Err(DocumentError::Kind { .. })));
    assert!(Node::root(&json!(2)).number_in(0.0, 1.0, "a share").is_err());
}

#[test]
fn integers_are_exact() {
    let integer = |value| Node::root(&value).integer_u128();
    assert_eq!(integer(json!("340282366920938463463374607431768211455")), Ok(u128::MAX));
    assert_eq!(integer(json!(u64::MAX)), Ok(u128::from(u64::MAX)));
    for bad in
        [json!("340282366920938463463374607431768211456"), json!(-1), json!(1.5), json!("+1"), json!("")]
    {
        assert!(integer(bad).is_err());
    }
}

#[test]
fn decimals_are_what_is_written() {
    let decimal = |value| Node::root(&value).decimal().map(|found| (found.digits, found.places));
    assert_eq!(decimal(json!(0.1)), Ok((1, 1)));
    assert_eq!(decimal(json!("12.340")), Ok((1234, 2)));
    assert_eq!(decimal(json!("5e3")), Ok((5000, 0)));
    assert_eq!(decimal(json!(1e-7)), Ok((1, 7)));
    assert_eq!(decimal(json!("0e-99999")), Ok((0, 0)));
    for bad in [json!(-0.5), json!("."), json!("e1"), json!("1e99"), json!("1e-99"), json!("1.2.3")] {
        assert!(decimal(bad).is_err());
    }
}
