use serde_json::json;

use super::*;

fn says<T: fmt::Debug>(result: Result<T, DocumentError>) -> String {
    result.expect_err("refused").to_string()
}

#[test]
fn values_and_paths() {
    let doc = json!({"a": [{"b": 7}, {"b": "12"}], "x": 0.25, "y": "0.5", "n": null, "t": true});
    let root = Node::root(&doc);
    let a = root.field("a").expect("there");
    let b: Vec<u128> =
        a.items().expect("list").map(|n| n.field("b").and_then(|b| b.u128()).expect("integer")).collect();
    assert_eq!(b, [7, 12]);
    assert_eq!(root.field("x").and_then(|x| x.number(0.0, 1.0)), Ok(0.25));
    assert_eq!(root.field("y").and_then(|y| y.unit()), Ok(Unit::from_bits(1 << 31)));
    assert_eq!(root.field("t").and_then(|t| t.boolean()), Ok(true));
    assert!(root.optional("n").expect("object").is_none());
    let second = a.items().expect("list").nth(1).expect("two");
    assert_eq!(
        says(second.field("b").and_then(|b| b.integer(0, 9))),
        "a[1].b: expected an integer from 0 to 9, found \"12\""
    );
    assert_eq!(says(second.field("c").map(|_| ())), "a[1]: the key `c` is missing");
    assert_eq!(says(second.known(&["c", "d"])), "a[1]: unknown key `b`; known are c, d");
    assert_eq!(says(root.items().map(|_| ())), "document: expected a list, found an object of 5 keys");
    assert_eq!(says(root.one_of(&["x", "y"]).map(|_| ())), "document: expected exactly one of the keys x, y");
    assert_eq!(root.one_of(&["q", "y"]).map(|(at, _)| at), Ok(1));
    assert!(root.one_of(&["q", "n"]).is_err());
    assert_eq!(says(a.exactly(3).map(|_| ())), "a: expected a list of 3, found a list of 2");
    assert_eq!(a.exactly(2).map(|items| items.len()), Ok(2));
    assert_eq!(a.length(1, 2), Ok(2));
    assert_eq!(says(a.length(0, 1)), "a: expected a list of 0 to 1, found a list of 2");
    assert_eq!(says(a.length(3, 4)), "a: expected a list of 3 to 4, found a list of 2");
    assert_eq!(says(a.boolean()), "a: expected true or false, found a list of 2");
    assert_eq!(says(a.number_as(0.0, 1.0, "a share")), "a: expected a share, found a list of 2");
}

#[test]
fn errors_are_short() {
    let long = "é".repeat(1000);
    let doc = json!({ long.clone(): [long] });
    let root = Node::root(&doc);
    let cut = format!("{}…", "é".repeat(64));
    assert_eq!(says(root.known(&["a"])), format!("document: unknown key `{cut}`; known are a"));
    let (_, inner) = root.entries().expect("object").next().expect("one");
    let item = inner.items().expect("list").next().expect("one");
    assert_eq!(says(item.boolean()), format!("{cut}[0]: expected true or false, found {cut:?}"));
}

#[test]
fn integers_are_exact_or_refused() {
    let read = |value: Value| Node::root(&value).u128().ok();
    assert_eq!(read(json!(9_007_199_254_740_993u64)), Some(9_007_199_254_740_993));
    assert_eq!(read(json!(u64::MAX)), Some(u64::MAX.into()));
    assert_eq!(read(json!(u128::MAX.to_string())), Some(u128::MAX));
    assert_eq!(read(json!("0".repeat(64))), Some(0));
    let big: Value = serde_json::from_str("18446744073709551616").expect("JSON");
    assert!(says(Node::root(&big).u128()).contains("as a decimal string"));
    for value in [
        json!(1.5),
        json!(9_007_199_254_740_994.0),
        json!(-1),
        json!(-1.0),
        json!(""),
        json!("+1"),
        json!("1.0"),
        json!(" 1"),
        json!("0".repeat(65)),
        json!(true),
    ] {
        assert_eq!(read(value.clone()), None, "{value}");
    }
    assert_eq!(read(json!(format!("{}0", u128::MAX))), None);
    // As programs write integers that have only floats.
    assert_eq!([1.0, 1e3, 0.0].map(|float| read(json!(float))), [Some(1), Some(1_000), Some(0)]);
}

#[test]
fn numbers_are_finite_and_in_range() {
    let read = |value: Value| Node::root(&value).number(0.0, 2.0).ok();
    assert_eq!(read(json!("1e-1")), Some(0.1));
    assert_eq!(read(json!(2)), Some(2.0));
    for value in [
        json!("nan"),
        json!("inf"),
        json!("infinity"),
        json!("-0.1"),
        json!(2.1),
        json!("1e999"),
        json!("1".repeat(65)),
        json!([]),
        json!("0x1"),
        json!(""),
    ] {
        assert_eq!(read(value.clone()), None, "{value}");
    }
    assert!(Node::root(&json!("1e999")).number(0.0, f64::INFINITY).is_err());
}

#[test]
fn decimals_are_what_is_written() {
    let decimal = |value| Node::root(&value).decimal().map(|found| (found.digits, found.places));
    assert_eq!(decimal(json!(0.1)), Ok((1, 1)));
    assert_eq!(decimal(json!("12.340")), Ok((1234, 2)));
    assert_eq!(decimal(json!("5e3")), Ok((5000, 0)));
    assert_eq!(decimal(json!(1e-7)), Ok((1, 7)));
    assert_eq!(decimal(json!("0e-99999")), Ok((0, 0)));
    assert_eq!(decimal(json!(2.5e-300)), Ok((25, 301)));
    for bad in
        [json!(-0.5), json!("."), json!("e1"), json!(""), json!("1e99"), json!("1e-401"), json!("1.2.3")]
    {
        assert!(decimal(bad).is_err());
    }
}
