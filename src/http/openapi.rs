//! The API description, OpenAPI 3.1, generated from the routes that are served so that the two cannot drift apart.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::info::{InfoBuilder, LicenseBuilder};
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{AdditionalProperties, OneOf, Schema, SchemaType, Type};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::server::{Server, ServerBuilder};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{Components, Content, OpenApi, OpenApiBuilder, Ref, RefOr};
use utoipa_axum::router::OpenApiRouter;

use crate::domain::error::Code;
use crate::http::openapi::components::{API_KEY, BEARER, example_name, header, headers, of_item_mut, parameters};
use crate::http::problem::Problem;
use crate::http::routes::route_entries;

pub(super) mod components;
mod event_webhooks;
pub(super) mod v3_0;

/// The title of the description and of the page that shows it.
pub(super) const TITLE: &str = "examgate API";

const DESCRIPTION: &str = include_str!("description.md");

const TAGS: [(&str, &str); 15] = [
    ("Candidates", "People registered on a connection."),
    ("Assignments", "Bookings of candidates for assessments."),
    ("Results", "What became of exams."),
    ("Reports", "What vendors said about attempts, as it came; results are made from it."),
    ("Events", "What happened that no response reported."),
    ("Webhooks", "Where the tenant's events are delivered, and the deliveries."),
    ("Programs", "Employees enrolled in programs at the vendor."),
    ("Operations", "Jobs with many rows: bulk requests and changes to programs."),
    ("Catalogue", "Assessments and programs that can be booked, and the capabilities of each vendor."),
    ("Connections", "Configured vendor accounts."),
    ("Exchanges", "Recent requests, with the vendor calls they made and the vendors' responses."),
    ("Audit", "Who requested what, and the outcome."),
    ("Client", "The caller itself."),
    ("Receivers", "Where vendors send their webhooks. No credentials of the gateway required."),
    ("Service", "The gateway itself. No credentials required."),
];

/// Builds the OpenAPI 3.1 document. `public_url` is the address callers use, if known. The document always lists a
/// server URL relative to itself as well, which is valid below any path and behind any proxy.
#[must_use]
pub fn document(public_url: Option<&str>) -> OpenApi {
    let mut document = route_entries().fold(OpenApiRouter::with_openapi(base()), OpenApiRouter::routes).into_openapi();
    document.servers = Some(servers(public_url));
    document.webhooks = Some(event_webhooks::webhooks());
    let components = document.components.get_or_insert_default();
    describe_parts(components);
    let inputs = reachable(components, operations(&mut document.paths.paths), Side::Request);
    let outputs = reachable(components, operations(&mut document.paths.paths), Side::Response);
    forbid_unknown_fields(components, &inputs);
    omit_null(components, &outputs);
    for operation in operations(&mut document.paths.paths) {
        add_headers(operation);
        add_examples(operation, components);
    }
    let returned: BTreeSet<String> = operations(&mut document.paths.paths).flat_map(referenced_examples).collect();
    components.examples.retain(|name, _| returned.contains(name));
    document
}

/// Prints the document as it is kept in a file: indented, with a final newline.
///
/// # Errors
/// If the document cannot be serialised, which would be a bug in this program.
pub fn printed(document: &OpenApi) -> Result<String, serde_json::Error> {
    Ok(serde_json::to_string_pretty(document)? + "\n")
}

/// Builds the document without routes.
fn base() -> OpenApi {
    let license = LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build();
    let info = InfoBuilder::new()
        .title(TITLE)
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(DESCRIPTION))
        .license(Some(license))
        .build();
    let tags = TAGS.map(|(name, description)| TagBuilder::new().name(name).description(Some(description)).build());
    // The rule; every protected operation adds its scope, and an open one is an exception.
    let security = [BEARER, API_KEY].map(|scheme| SecurityRequirement::new::<_, [&str; 0], _>(scheme, []));
    OpenApiBuilder::new()
        .info(info)
        .tags(Some(tags))
        .security(Some(security))
        .components(Some(Components::new()))
        .build()
}

fn servers(public_url: Option<&str>) -> Vec<Server> {
    let relative = ServerBuilder::new().url(".").description(Some("Where this document was loaded from.")).build();
    let public = public_url.map(|url| {
        ServerBuilder::new().url(url.trim_end_matches('/')).description(Some("The gateway's public address.")).build()
    });
    public.into_iter().chain([relative]).collect()
}

type Paths<'a> = &'a mut utoipa::openapi::path::PathsMap<String, utoipa::openapi::path::PathItem>;

fn operations(paths: Paths<'_>) -> impl Iterator<Item = &mut Operation> {
    paths.values_mut().flat_map(of_item_mut)
}

fn describe_parts(components: &mut Components) {
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("An API key or, if the operator uses an identity provider, a token it issued: `Authorization: Bearer <key or JWT>`."))
        .build();
    components.add_security_scheme(BEARER, SecurityScheme::Http(bearer));
    let key = ApiKeyValue::with_description("X-Api-Key", "An API key.");
    components.add_security_scheme(API_KEY, SecurityScheme::ApiKey(ApiKey::Header(key)));
    for (name, header) in headers() {
        components.headers.insert(name.to_owned(), header.into());
    }
    for (name, parameter) in parameters() {
        components.parameters.insert(name.to_owned(), parameter.into());
    }
    for code in Code::ALL {
        let example = ExampleBuilder::new().summary(code.title()).value(Some(Problem::example(*code))).build();
        components.examples.insert(example_name(*code), example.into());
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Request,
    Response,
}

/// Collects the names of the schemas used in requests, or in responses.
fn reachable<'a>(
    components: &Components,
    operations: impl Iterator<Item = &'a mut Operation>,
    side: Side,
) -> BTreeSet<String> {
    let mut wanted: Vec<String> = Vec::new();
    for operation in operations {
        for content in contents(operation, side) {
            wanted.extend(content.schema.iter().flat_map(references));
        }
    }
    let mut found = BTreeSet::new();
    while let Some(name) = wanted.pop() {
        if found.insert(name.clone()) {
            wanted.extend(components.schemas.get(&name).into_iter().flat_map(references));
        }
    }
    found
}

fn contents(operation: &mut Operation, side: Side) -> Vec<&mut Content> {
    let bodies = match (&mut operation.request_body, side) {
        (Some(RefOr::T(body)), Side::Request) => body.content.values_mut().collect(),
        _ => Vec::new(),
    };
    let answers = operation.responses.responses.values_mut().filter(|_| side == Side::Response);
    let answers = answers.filter_map(|answer| if let RefOr::T(answer) = answer { Some(answer) } else { None });
    let answers = answers.flat_map(|answer| answer.content.values_mut());
    bodies
        .into_iter()
        .chain(answers)
        .filter_map(|content| if let RefOr::T(c) = content { Some(c) } else { None })
        .collect()
}

fn references(schema: &RefOr<Schema>) -> Vec<String> {
    fn walk(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                let target = members.get("$ref").and_then(Value::as_str);
                found.extend(target.and_then(|t| t.strip_prefix("#/components/schemas/")).map(str::to_owned));
                members.values().for_each(|value| walk(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| walk(value, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk(&serde_json::to_value(schema).unwrap_or_default(), &mut found);
    found
}

/// Closes the schemas of requests, which are rejected if they have unknown fields. Responses may gain fields, so their
/// schemas stay open.
fn forbid_unknown_fields(components: &mut Components, inputs: &BTreeSet<String>) {
    for name in inputs {
        if let Some(RefOr::T(schema)) = components.schemas.get_mut(name) {
            close(schema);
        }
    }
}

fn close(schema: &mut Schema) {
    match schema {
        Schema::Object(object) if !object.properties.is_empty() => {
            object.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
        }
        Schema::OneOf(one_of) => {
            for item in &mut one_of.items {
                if let RefOr::T(schema) = item {
                    close(schema);
                }
            }
        }
        _ => {}
    }
}

/// Removes `null` from optional response fields: an empty field is omitted, never `null`, unless it is required.
fn omit_null(components: &mut Components, outputs: &BTreeSet<String>) {
    for name in outputs {
        let Some(RefOr::T(Schema::Object(object))) = components.schemas.get_mut(name) else { continue };
        let required: BTreeSet<&String> = object.required.iter().collect();
        let optional = object.properties.iter_mut().filter(|(member, _)| !required.contains(member));
        optional.for_each(|(_, schema)| without_null(schema));
    }
}

fn without_null(schema: &mut RefOr<Schema>) {
    let replacement = match schema {
        RefOr::T(Schema::Object(object)) => {
            drop_null(&mut object.schema_type);
            None
        }
        RefOr::T(Schema::Array(array)) => {
            drop_null(&mut array.schema_type);
            None
        }
        RefOr::T(Schema::OneOf(one_of)) => only_reference(one_of),
        _ => None,
    };
    if let Some(reference) = replacement {
        *schema = RefOr::Ref(reference);
    }
}

fn drop_null(schema_type: &mut SchemaType) {
    if let SchemaType::Array(types) = schema_type {
        types.retain(|kind| *kind != Type::Null);
        if let [only] = types.as_slice() {
            *schema_type = SchemaType::Type(only.clone());
        }
    }
}

fn only_reference(one_of: &OneOf) -> Option<Ref> {
    let mut references = one_of.items.iter().filter_map(|item| if let RefOr::Ref(r) = item { Some(r) } else { None });
    let (Some(only), None) = (references.next(), references.next()) else { return None };
    let mut reference = only.clone();
    if reference.description.is_empty() {
        reference.description = one_of.description.clone().unwrap_or_default();
    }
    Some(reference)
}

fn add_headers(operation: &mut Operation) {
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        response.headers.insert("X-Request-Id".to_owned(), header("RequestId"));
        if ["201", "202"].contains(&status.as_str()) {
            response.headers.insert("Location".to_owned(), header("Location"));
        }
        if status == "202" {
            response.headers.insert("Preference-Applied".to_owned(), header("PreferenceApplied"));
        }
    }
}

/// Copies the schema's example to bodies without one of their own.
fn add_examples(operation: &mut Operation, components: &Components) {
    let examples: BTreeMap<&String, Value> =
        components.schemas.iter().filter_map(|(name, schema)| Some((name, example_in(schema)?))).collect();
    for side in [Side::Request, Side::Response] {
        for content in contents(operation, side) {
            if content.example.is_some() || !content.examples.is_empty() {
                continue;
            }
            let name = content.schema.iter().flat_map(references).next();
            content.example = name.and_then(|name| examples.get(&name).cloned());
        }
    }
}

/// Lists the names of the problem examples in an operation's responses.
fn referenced_examples(operation: &mut Operation) -> Vec<String> {
    let examples = contents(operation, Side::Response).into_iter().flat_map(|content| content.examples.values());
    let names = examples.filter_map(|example| {
        let RefOr::Ref(reference) = example else { return None };
        reference.ref_location.strip_prefix("#/components/examples/").map(str::to_owned)
    });
    names.collect()
}

fn example_in(schema: &RefOr<Schema>) -> Option<Value> {
    match schema {
        RefOr::T(Schema::Object(object)) => object.examples.first().cloned(),
        RefOr::T(Schema::AllOf(parts)) => parts.examples.first().cloned(),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
