//! Merges the embedded defaults, the file and the environment, and records where each value came from.
//!
//! The `config` crate merges the defaults and the file: each of its values carries an origin, which here is a line of
//! the file. `toml_edit` reads TOML, because its spans give line numbers. See docs/decisions/0003-configuration.md.

use std::path::PathBuf;
use std::sync::LazyLock;

use config::{Map, Source, ValueKind};
use serde_json::{Number, Value};
use toml_edit::{Document, Item, TableLike};

use crate::config::env;
use crate::config::error::{ConfigError, Location, Locations, Path};

/// The embedded defaults, with every configuration key.
pub const DEFAULTS: &str = include_str!("default.toml");

/// The defaults as a tree, for what cannot be read.
pub(super) static DEFAULT_TREE: LazyLock<Value> = LazyLock::new(|| {
    let defaults = parse(DEFAULTS, None).map(|tree| to_json(&tree, &mut Vec::new(), "", &mut Locations::new()));
    defaults.unwrap_or_default()
});

// `config` parses names at the root as path expressions (`a.b`, `a[0]`). An extra root above them keeps quoted names
// whole.
const ROOT: &str = "examgate";

/// The only sources of a configuration.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The configuration file: its name for messages, and its text.
    pub file: Option<(PathBuf, String)>,
    /// The process's environment variables; those without the prefix `EXAMGATE__` are ignored.
    pub environment: Vec<(String, String)>,
}

/// The merged configuration before validation.
pub(super) struct Layers {
    pub(super) tree: Value,
    pub(super) places: Locations,
    /// Errors of environment variables: malformed, ambiguous or duplicate names, or a value that is not a table.
    pub(super) errors: Vec<ConfigError>,
}

/// Reads and merges the sources.
///
/// # Errors
/// The file is not valid TOML; nothing more can be checked then.
pub(super) fn merge(sources: &Sources) -> Result<Layers, ConfigError> {
    let mut layers = vec![Layer(parse(DEFAULTS, None)?)];
    let name = sources.file.as_ref().map(|(path, _)| path.display().to_string()).unwrap_or_default();
    if let Some((_, text)) = &sources.file {
        layers.push(Layer(parse(text, Some(&name))?));
    }
    let mut places = Locations::new();
    let mut tree = to_json(&merge_layers(&layers)?, &mut Vec::new(), &name, &mut places);
    let errors = env::apply(&sources.environment, &mut tree, &mut places);
    Ok(Layers { tree, places, errors })
}

#[derive(Debug, Clone)]
struct Layer(config::Value);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, config::Value>, config::ConfigError> {
        Ok(Map::from_iter([(ROOT.to_owned(), self.0.clone())]))
    }
}

fn merge_layers(layers: &[Layer]) -> Result<config::Value, ConfigError> {
    let builder = layers.iter().fold(config::Config::builder(), |builder, layer| builder.add_source(layer.clone()));
    let root = builder.build().and_then(|merged| merged.cache.into_table()).map(|mut root| root.remove(ROOT));
    match root {
        Ok(Some(tree)) => Ok(tree),
        Ok(None) => Ok(Map::<String, config::Value>::new().into()),
        Err(_) => Err(ConfigError { place: None, key: String::new(), detail: "cannot be merged".to_owned() }),
    }
}

/// Parses a document; only the values of a file have lines.
fn parse(text: &str, file: Option<&str>) -> Result<config::Value, ConfigError> {
    let document = Document::parse(text).map_err(|error| {
        // Only the first line: the full error quotes the source line, which may contain a secret.
        let line = error.span().map_or(1, |span| line_of(text, span.start));
        let place = file.map(|file| Location::File { file: file.to_owned(), line });
        let message = error.message().lines().next().unwrap_or_default();
        let name =
            error.span().and_then(|span| text.get(span)).filter(|name| message == "duplicate key" && is_bare(name));
        let detail = match name {
            Some(name) => format!("is not valid TOML: {name} is there twice; remove one of them"),
            // Usually an address or a duration without quotes.
            None if ["invalid float", "invalid integer", "invalid datetime"]
                .iter()
                .any(|start| message.starts_with(start)) =>
            {
                format!("is not valid TOML: {message}; text needs double quotes")
            }
            None => format!("is not valid TOML: {message}"),
        };
        ConfigError { place, key: String::new(), detail }
    })?;
    Ok(TomlReader { text, has_lines: file.is_some() }.table(document.as_table()))
}

/// Returns whether this is a bare key of TOML, and so no value.
fn is_bare(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

struct TomlReader<'a> {
    text: &'a str,
    has_lines: bool,
}

impl TomlReader<'_> {
    fn table(&self, table: &dyn TableLike) -> config::Value {
        let members: Map<String, config::Value> =
            table.iter().map(|(name, item)| (name.to_owned(), self.item(item))).collect();
        members.into()
    }

    fn item(&self, item: &Item) -> config::Value {
        if let Some(table) = item.as_table_like() {
            return self.table(table);
        }
        let kind = match item {
            Item::Value(toml_edit::Value::String(text)) => ValueKind::String(text.value().clone()),
            Item::Value(toml_edit::Value::Integer(number)) => ValueKind::I64(*number.value()),
            Item::Value(toml_edit::Value::Float(number)) => ValueKind::Float(*number.value()),
            Item::Value(toml_edit::Value::Boolean(flag)) => ValueKind::Boolean(*flag.value()),
            Item::Value(toml_edit::Value::Datetime(time)) => ValueKind::String(time.value().to_string()),
            Item::Value(toml_edit::Value::Array(list)) => {
                ValueKind::Array(list.iter().map(|value| self.item(&Item::Value(value.clone()))).collect())
            }
            Item::ArrayOfTables(list) => ValueKind::Array(list.iter().map(|table| self.table(table)).collect()),
            Item::None | Item::Table(_) | Item::Value(toml_edit::Value::InlineTable(_)) => ValueKind::Nil,
        };
        let line = || item.span().map_or(1, |span| line_of(self.text, span.start)).to_string();
        config::Value::new(self.has_lines.then(line).as_ref(), kind)
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// Converts the merged values to JSON and records the location of each; `file` is the file's name.
fn to_json(value: &config::Value, path: &mut Path, file: &str, places: &mut Locations) -> Value {
    if let Some(line) = value.origin().and_then(|origin| origin.parse().ok()) {
        places.insert(path.clone(), Location::File { file: file.to_owned(), line });
    }
    let mut below = |name: String, value: &config::Value| {
        path.push(name);
        let value = to_json(value, path, file, places);
        path.pop();
        value
    };
    match &value.kind {
        ValueKind::Nil => Value::Null,
        ValueKind::Boolean(flag) => Value::from(*flag),
        ValueKind::I64(number) => Value::from(*number),
        ValueKind::U64(number) => Value::from(*number),
        ValueKind::I128(number) => Value::from(number.to_string()),
        ValueKind::U128(number) => Value::from(number.to_string()),
        // JSON has no `nan` and no `inf`; as text they are refused where a number is expected, and not left out.
        ValueKind::Float(number) => Number::from_f64(*number).map_or_else(|| number.to_string().into(), Value::Number),
        ValueKind::String(text) => Value::from(text.clone()),
        ValueKind::Table(members) => {
            members.iter().map(|(name, value)| (name.clone(), below(name.clone(), value))).collect()
        }
        ValueKind::Array(items) => {
            items.iter().enumerate().map(|(index, value)| below(index.to_string(), value)).collect()
        }
    }
}
