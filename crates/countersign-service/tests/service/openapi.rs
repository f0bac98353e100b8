//! The document against the routes, and what they answer against the document.

use std::collections::BTreeSet;

use countersign_service::OPENAPI;
use serde_json::{Value, json};

use crate::bench::{Answer, Bench, bearer, orders};

fn document() -> Value {
    serde_json::from_str(OPENAPI).unwrap()
}

/// What the document has for a status, resolved; fails where it has nothing.
#[track_caller]
fn described(path: &str, method: &str, answer: &Answer) -> Value {
    let described = &document()["paths"][path][method]["responses"][answer.status.to_string()];
    assert!(described.is_object(), "{method} {path}: {}", answer.status);
    let kind = answer.headers.get("content-type").map_or("", |kind| kind);
    described["content"].get(kind).map_or(Value::Null, |content| content["schema"].clone())
}

/// Required members are there, no others where others are forbidden, and words are of their list.
fn fits(schema: &Value, value: &Value) -> bool {
    let document = document();
    let schema = match schema["$ref"].as_str() {
        Some(name) => document.pointer(name.trim_start_matches('#')).unwrap(),
        None => schema,
    };
    if let Some(one_of) = schema["oneOf"].as_array() {
        return one_of.iter().filter(|schema| fits(schema, value)).count() == 1;
    }
    let has = |name: &Value| value.get(name.as_str().unwrap()).is_some();
    let is_listed = schema["enum"].as_array().is_none_or(|words| words.contains(value));
    let is_constant = schema.get("const").is_none_or(|constant| constant == value);
    let is_typed = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64(),
        _ => true,
    };
    let members = value.as_object().into_iter().flatten().all(|(name, value)| {
        schema["properties"].get(name).map_or(schema["additionalProperties"] != false, |schema| fits(schema, value))
    });
    let items = value.as_array().into_iter().flatten().all(|value| fits(&schema["items"], value));
    is_listed
        && is_constant
        && is_typed
        && members
        && items
        && schema["required"].as_array().is_none_or(|names| names.iter().all(has))
}

#[tokio::test]
async fn the_document_has_every_route_and_no_other() {
    let bench = Bench::new().await;
    let document = document();
    let paths = document["paths"].as_object().unwrap();
    let told = paths
        .iter()
        .flat_map(|(path, item)| item.as_object().unwrap().keys().map(move |method| (method.clone(), path.clone())));
    let routes = bench.service.routes().into_iter().map(|(method, path)| (method.to_owned(), path));
    assert_eq!(told.collect::<BTreeSet<_>>(), routes.collect::<BTreeSet<_>>());
    for (method, path) in bench.service.routes() {
        let answer = match method {
            "post" => bench.post(&path, "", &json!({})).await,
            _ => bench.get(&path).await,
        };
        let schema = described(&path, method, &answer);
        assert!(fits(&schema, &answer.json()), "{method} {path} {schema} {}", answer.json());
    }
    assert_eq!(bench.get("/openapi.json").await.json(), document);
}

#[tokio::test]
async fn what_is_answered_is_what_the_document_says() {
    let bench = Bench::new().await;
    let batch = json!({ "requests": [orders(), { "profile": "none" }, 7] });
    for (path, body) in [
        ("/v1/tokens", orders()),
        ("/v1/tokens", json!({ "profile": "none" })),
        ("/v1/tokens", json!({ "profile": "access", "aud": "orders", "ttl": 5_000 })),
        ("/v1/tokens", json!({ "profile": "access", "aud": "orders", "claims": { "tenant": "x".repeat(4_000) } })),
        ("/v1/tokens", json!([])),
        ("/v1/tokens:batch", batch),
        ("/v1/tokens:batch", json!({})),
    ] {
        let answer = bench.post(path, &bearer(&bench.assertion()), &body).await;
        let schema = described(path, "post", &answer);
        assert!(!schema.is_null() && fits(&schema, &answer.json()), "{path} {body} {}", answer.json());
    }
    // The check itself can fail.
    assert!(!fits(&json!({ "$ref": "#/components/schemas/Token" }), &json!({ "token": "x" })));
    assert!(!fits(&json!({ "$ref": "#/components/schemas/Request" }), &json!({ "profile": "x", "iss": "x" })));
}
