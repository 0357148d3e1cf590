use super::*;

#[test]
fn values_of_every_type() {
    let text = r#" { "null": null, "yes": true, "no":false, "int":-12, "float":1.5e1, "text":"a",
        "list":[1,"b",[],{}], "object":{"a":{"b":["c"]}}, "empty":{} } "#;
    let j = Json::parse(text).unwrap();
    assert!(
        j.is_object()
            && j.get("list").is_array()
            && j.get("null").is_null()
            && j.get("none").is_null()
    );
    assert_eq!(
        (j.get("yes").bool(), j.get("no").bool()),
        (Some(true), Some(false))
    );
    assert_eq!(
        (j.get("int").int(), j.get("float").int()),
        (Some(-12), None)
    );
    assert_eq!(
        (j.get("int").float(), j.get("float").float()),
        (Some(-12.0), Some(15.0))
    );
    assert_eq!(j.get("text").text().as_deref(), Some("a"));
    assert_eq!(j.get("list").strings(), ["", "b", "", ""]);
    assert_eq!(
        j.get("list").items().map(Json::raw).collect::<Vec<_>>(),
        ["1", "\"b\"", "[]", "{}"]
    );
    assert_eq!(j.get("object").get("a").get("b").strings(), ["c"]);
    let members: Vec<_> = j.members().map(|(key, _)| key).collect();
    assert_eq!(
        members,
        ["null", "yes", "no", "int", "float", "text", "list", "object", "empty"]
    );
    assert_eq!(j.get("empty").members().count(), 0);
}

#[test]
fn accessors_refuse_other_types() {
    for text in ["null", "1", "\"{\"", "true", "[]", "{}", "-"] {
        let j = Json::parse(text).unwrap_or(Json::NULL);
        assert!(j.get("a").is_null());
        assert_eq!(j.items().count() + j.members().count(), 0);
        assert_eq!(j.text().is_some(), text == "\"{\"");
        assert_eq!(j.int().is_some() && j.float().is_some(), text == "1");
    }
    assert_eq!(Json::parse("9223372036854775808").unwrap().int(), None);
    assert_eq!(
        Json::parse("-9223372036854775808").unwrap().int(),
        Some(i64::MIN)
    );
}

#[test]
fn strings_with_escapes() {
    for (text, want) in [
        (r#""""#, ""),
        (r#""a\"\\\/\b\f\n\r\tz""#, "a\"\\/\u{8}\u{c}\n\r\tz"),
        (r#""gr\u00fc\u00DF""#, "grüß"),
        (r#""\ud83d\ude00 \uD83D\uDE00""#, "😀 😀"),
        (
            r#""\ud83d! \ude00 \ud83d\ud83d\ude00 \ud83dA\\u""#,
            "\u{fffd}! \u{fffd} \u{fffd}😀 \u{fffd}A\\u",
        ),
        (r#""\ud800\u0041""#, "\u{fffd}A"),
        (r#""\\u0041""#, "\\u0041"),
        (r#""\u0000""#, "\0"),
        ("\"日本\"", "日本"),
    ] {
        assert_eq!(
            Json::parse(text).unwrap().text().as_deref(),
            Some(want),
            "{}",
            text
        );
    }
    let j = Json::parse(r#"{"a\u002eb":1,"c\\":{"]":2}}"#).unwrap();
    assert_eq!(
        (j.get("a.b").int(), j.get("c\\").get("]").int()),
        (Some(1), Some(2))
    );
}

#[test]
fn malformed() {
    for (text, why) in [
        ("", "byte 0: want a value"),
        ("  ", "byte 2: want a value"),
        ("nul", "want a value"),
        ("True", "want a value"),
        ("{", "want a key in quotes"),
        ("{\"a\"}", "want a colon"),
        ("{\"a\":}", "want a value"),
        ("{\"a\":1,}", "want a key in quotes"),
        ("{\"a\":1 \"b\":2}", "byte 7: want a comma or }"),
        ("{a:1}", "want a key in quotes"),
        ("[1,]", "want a value"),
        ("[1 2]", "want a comma or ]"),
        ("[1}", "want a comma or ]"),
        ("1 2", "byte 2: text after the value"),
        ("01", "text after the value"),
        ("-", "want a digit"),
        ("1.", "want a digit"),
        (".5", "want a value"),
        ("1e", "want a digit"),
        ("1e+", "want a digit"),
        ("+1", "want a value"),
        ("\"", "without an end"),
        ("\"\\", "unknown escape"),
        ("\"\\x\"", "unknown escape"),
        ("\"\\u12\"", "hexadecimal"),
        ("\"\n\"", "control character"),
        ("\"\0\"", "control character"),
        ("\0", "want a value"),
        ("{\"a\":1,\"a\":2}", "there twice"),
        ("{\"b\":1,\"a\":2,\"b\":3}", "there twice"),
        ("{\"a\":1,\"\\u0061\":2}", "there twice"),
        ("[{\"x\":{\"b\":0,\"a\":0,\"a\":0}}]", "there twice"),
        ("\u{feff}1", "want a value"),
    ] {
        let e = Json::parse(text).unwrap_err().to_string();
        assert!(e.contains(why), "{:?}: {}", text, e);
    }
    assert_eq!(
        Json::from_bytes(b"\"\xff\"").unwrap_err().to_string(),
        "json: not UTF-8"
    );
    assert!(Json::parse("{\"b\":1,\"a\":2,\"\\u0062c\":3}").is_ok());
    assert!(Json::parse("{\"\":1}").is_ok());
}

#[test]
fn depth_is_bounded() {
    let nested = |n: usize| "[".repeat(n) + &"]".repeat(n);
    assert!(Json::parse(&nested(64)).is_ok());
    assert!(Json::parse(&nested(65))
        .unwrap_err()
        .to_string()
        .contains("deeper than 64"));
    assert!(Json::parse(&"[".repeat(1 << 20)).is_err());
}

/// Everything that can be asked of a value.
fn walk(j: Json) {
    let _ = (
        j.text(),
        j.int(),
        j.float(),
        j.bool(),
        j.get("a"),
        j.strings(),
    );
    j.items().for_each(walk);
    j.members().for_each(|(_, v)| walk(v));
}

#[test]
fn no_text_makes_it_panic() {
    let good = r#"{"a":["b\u00e4",-1.5e3,{"ü":null}],"c":"\ud83d\ude00\\"}"#;
    for at in 0..good.len() {
        for b in 0..=255u8 {
            let mut bytes = good.as_bytes().to_vec();
            bytes[at] = b;
            for part in [&bytes[..], &bytes[..at], &bytes[at..]] {
                if let Ok(text) = std::str::from_utf8(part) {
                    walk(Json::parse(text).unwrap_or(Json::NULL));
                    walk(Json { text }); // and without the check
                }
            }
        }
    }
}

#[test]
fn written() {
    let text = object(|o| {
        o.put("text", "a\"\\\n\r\t\u{1}\u{1f}/ü<&>😀");
        o.put("int", -7);
        o.put("float", 0.5);
        o.put("nan", f64::NAN);
        o.put("bool", true);
        o.put("none", None::<bool>);
        o.put("list", vec!["a", "b"]);
        o.put("raw", Json::parse(" [1] ").unwrap());
        o.array("array", |a| {
            a.put(1);
            a.object(|_| {});
            a.array(|a| a.put("x"));
        });
        o.object("object", |o| o.put("k", "v"));
    });
    assert_eq!(
        text.to_string(),
        "{\"text\":\"a\\\"\\\\\\n\\r\\t\\u0001\\u001f/ü<&>😀\",\"int\":-7,\"float\":0.5,\
         \"nan\":null,\"bool\":true,\"none\":null,\"list\":[\"a\",\"b\"],\"raw\":[1],\
         \"array\":[1,{},[\"x\"]],\
         \"object\":{\"k\":\"v\"}}"
    );
    assert_eq!(Text::parse(text.to_string()), Ok(text.clone()));
    assert_eq!(
        text.get("text").text().as_deref(),
        Some("a\"\\\n\r\t\u{1}\u{1f}/ü<&>😀")
    );
    assert_eq!(array(|_| {}).to_string(), "[]");
    assert_eq!(Text::default().json(), Json::NULL);
}
