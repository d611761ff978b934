//! The OpenAPI document: made once, of what the operations say of themselves.

use std::sync::LazyLock;

use axum::{
    http::header,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde_json::{Value, json};
use utoipa::{
    Modify, OpenApi, PartialSchema, ToSchema,
    openapi::{
        Object, ObjectBuilder, OneOfBuilder, RefOr, Schema, Type,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use crate::{operations as ops, refusal::ErrorBody};

/// Opaque bytes of an application, as a schema: text, or Base64 where they are none.
pub enum Data {}

impl PartialSchema for Data {
    fn schema() -> RefOr<Schema> {
        let text = Object::with_type(Type::String);
        let bytes = ObjectBuilder::new()
            .schema_type(Type::Object)
            .property("base64", Object::with_type(Type::String))
            .required("base64");
        OneOfBuilder::new().item(text).item(bytes).description(Some("Text, or Base64 where it is none")).into()
    }
}

impl ToSchema for Data {}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "pushmesh api",
        description = "The front door of rooms. What is answered with a sequence is stored. Every answer that is no \
            success is an ErrorBody; 503 with Retry-After is nobody's fault, and the request may be said again as it is.",
    ),
    paths(
        ops::send_gift::http, ops::send_message::http, ops::send_likes::http, ops::send_note::http,
        ops::set_state::http, ops::set_role::http, ops::set_role::http_delete,
        ops::mute::http_in_room, ops::mute::http_everywhere,
        ops::unmute::http_in_room, ops::unmute::http_everywhere, ops::kick::http,
        ops::get_room::http, ops::get_ranking::http, ops::get_history::http,
        ops::find_comets::http, ops::get_totals::http, ops::get_user::http, ops::list_my_calls::http,
        ops::push_many::http, http,
    ),
    components(schemas(ErrorBody)),
    modifiers(&Tokens),
    security(("client" = []), ("backend" = ["room:write"])),
    tags(
        (name = "rooms", description = "What is sent into rooms, who keeps order there, and what they are like"),
        (name = "online", description = "Who is connected, and where to connect"),
        (name = "pushes", description = "Pushes to many"),
        (name = "about", description = "This document"),
    ),
)]
struct Document;

struct Tokens;

impl Modify for Tokens {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = |whose: &str| {
            let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT");
            SecurityScheme::Http(bearer.description(Some(whose)).build())
        };
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("client", scheme("A client's token: for himself alone"));
        components.add_security_scheme("backend", scheme("A backend's token, with the scope named"));
    }
}

/// What every operation that asks for a token may answer too; where one has more to say of a status, it does.
const REFUSALS: [(&str, &str); 6] = [
    ("400", "A field is wrong, or beyond a limit"),
    ("401", "No token, or one that is not accepted"),
    ("403", "Not allowed to whom the token speaks for"),
    ("429", "Too often"),
    ("500", "Something is broken; it stands in the log of this instance"),
    ("503", "Not now, which is nobody's fault"),
];
/// And what one with a body may.
const REFUSALS_OF_BODIES: [(&str, &str); 2] = [("408", "The body came too slowly"), ("413", "Too large")];

static TEXT: LazyLock<Bytes> =
    LazyLock::new(|| serde_json::to_vec(&document()).expect("a document has no type that JSON lacks").into());

/// The whole document.
fn document() -> Value {
    let mut document = serde_json::to_value(Document::openapi()).expect("a document has no type that JSON lacks");
    let wait = json!({
        "description": "Seconds after which saying it again makes sense",
        "schema": { "type": "integer", "minimum": 1 },
    });
    let paths = document["paths"].as_object_mut().into_iter().flat_map(|paths| paths.values_mut());
    for operation in paths.filter_map(Value::as_object_mut).flat_map(|path| path.values_mut()) {
        add_refusals(operation);
        for status in ["429", "503"] {
            if let Some(response) = operation["responses"].get_mut(status) {
                response["headers"] = json!({ "Retry-After": wait });
            }
        }
    }
    document
}

fn add_refusals(operation: &mut Value) {
    // Who may do it without a token is refused nothing.
    if operation["security"] == json!([{}]) {
        return;
    }
    let of_bodies = operation.get("requestBody").map_or(&[][..], |_| &REFUSALS_OF_BODIES);
    let Some(responses) = operation["responses"].as_object_mut() else { return };
    for (status, description) in REFUSALS.iter().chain(of_bodies) {
        let schema = json!({ "schema": { "$ref": "#/components/schemas/ErrorBody" } });
        let refusal = json!({ "description": description, "content": { "application/json": schema } });
        responses.entry(*status).or_insert(refusal);
    }
}

/// This document
///
/// For everybody.
#[utoipa::path(
    get, path = "/v1/openapi.json", tag = "about", operation_id = "get_openapi",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json", body = Object)),
    security(()),
)]
pub async fn http() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], TEXT.clone()).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Every method of every path, with its operation.
    fn documented(document: &Value) -> Vec<(String, &Value)> {
        let paths = document["paths"].as_object().unwrap();
        let of = |(path, methods): (&String, &'_ Value)| {
            let path = path.clone();
            (path, methods.as_object().unwrap().keys().cloned().collect::<Vec<_>>())
        };
        let names = paths.iter().map(of).flat_map(|(path, methods)| {
            methods.into_iter().map(move |method| (path.clone(), method)).collect::<Vec<_>>()
        });
        names
            .map(|(path, method)| (format!("{} {path}", method.to_uppercase()), &document["paths"][&path][&method]))
            .collect()
    }

    #[test]
    fn every_route_is_documented_and_nothing_else() {
        let document = document();
        let documented: BTreeSet<_> = documented(&document).into_iter().map(|(name, _)| name).collect();
        let served: BTreeSet<_> = ops::routes().iter().map(|route| route.name.to_owned()).collect();
        assert_eq!(documented, served);
    }

    #[test]
    fn every_operation_tells_its_security_its_names_and_its_errors() {
        let document = document();
        let mut ids = BTreeSet::new();
        for (name, operation) in documented(&document) {
            assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{name}");
            assert!(operation["summary"].is_string(), "{name}");
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.keys().any(|status| status.starts_with('2')), "{name}");
            if name != "GET /v1/openapi.json" {
                let all = REFUSALS.iter().chain(operation.get("requestBody").map_or(&[][..], |_| &REFUSALS_OF_BODIES));
                assert!(all.clone().all(|(status, _)| responses.contains_key(*status)), "{name}");
                let waits = |status: &str| responses[status]["headers"]["Retry-After"].is_object();
                assert!(waits("429") && waits("503"), "{name}");
            }
            for (status, response) in responses.iter().filter(|(status, _)| !status.starts_with('2')) {
                let schema = &response["content"]["application/json"]["schema"]["$ref"];
                assert_eq!(schema, "#/components/schemas/ErrorBody", "{name} {status}");
            }
            let inside: Vec<_> = name.split('{').skip(1).map(|rest| rest.split('}').next().unwrap()).collect();
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let told: Vec<_> = parameters.iter().filter(|parameter| parameter["in"] == "path").collect();
            assert_eq!(told.iter().map(|parameter| parameter["name"].as_str().unwrap()).collect::<Vec<_>>(), inside);
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
            match value {
                Value::Object(fields) => {
                    found.extend(fields.get("$ref").and_then(Value::as_str));
                    fields.values().for_each(|value| references(value, found));
                }
                Value::Array(values) => values.iter().for_each(|value| references(value, found)),
                _ => {}
            }
        }
        let document = document();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 50);
        for reference in found {
            assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
        }
        let schemes = document["components"]["securitySchemes"].as_object().unwrap();
        assert_eq!(schemes.keys().collect::<Vec<_>>(), ["backend", "client"]);
        let data = &document["components"]["schemas"]["Data"]["oneOf"];
        assert_eq!((&data[0]["type"], &data[1]["required"]), (&json!("string"), &json!(["base64"])), "{data}");
    }
}
