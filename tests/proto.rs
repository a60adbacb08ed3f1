//! The API follows buf's STANDARD and COMMENTS rules, and nothing in it changes.
//!
//! The rules are checked on the descriptors, so the tests do not need buf; `buf lint proto` checks the same rules.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, ServiceDescriptorProto,
    field_descriptor_proto::{Label, Type},
};

const PROTO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/proto");
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/proto.golden");

/// Field numbers of descriptors, as used in the paths of source locations.
const MESSAGE_OF_FILE: i32 = 4;
const ENUM_OF_FILE: i32 = 5;
const SERVICE_OF_FILE: i32 = 6;
const FIELD_OF_MESSAGE: i32 = 2;
const MESSAGE_OF_MESSAGE: i32 = 3;
const ENUM_OF_MESSAGE: i32 = 4;
const ONEOF_OF_MESSAGE: i32 = 8;
const VALUE_OF_ENUM: i32 = 2;
const METHOD_OF_SERVICE: i32 = 2;

/// All files of plegd's own API below a directory.
fn files(dir: &Path) -> Vec<FileDescriptorProto> {
    let mut names: Vec<String> = fs::read_dir(dir.join("plegd/v1"))
        .unwrap()
        .map(|entry| format!("plegd/v1/{}", entry.unwrap().file_name().to_str().unwrap()))
        .collect();
    names.sort();
    let mut compiler = protox::Compiler::new([dir]).unwrap();
    compiler.include_source_info(true).include_imports(false);
    compiler.open_files(&names).unwrap_or_else(|error| panic!("{error}"));
    compiler.file_descriptor_set().file
}

#[test]
fn the_api_follows_the_style_rules() {
    let violations = violations(&files(Path::new(PROTO)));
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

/// Each rule finds what breaks it.
#[test]
fn violations_of_the_style_rules_are_found() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("plegd/v1")).unwrap();
    let bad = r#"
        syntax = "proto3";
        package plegd.v2;
        message lower { string camelCase = 1; }
        // Comment.
        message Twice {
          // Comment.
          oneof Kind {
            // Comment.
            Color color = 1;
          }
        }
        // Comment.
        enum Color {
          // Comment.
          COLOR_NONE = 0;
          // Comment.
          RED = 1;
          // Comment.
          COLOR_dark = 2;
        }
        // Comment.
        service Things {
          // Comment.
          rpc Get(Twice) returns (Twice);
          // Comment.
          rpc put(Twice) returns (PutResponse);
        }
        // Comment.
        message PutResponse {}
    "#;
    fs::write(dir.path().join("plegd/v1/Bad.proto"), bad).unwrap();
    let mut found = violations(&files(dir.path()));
    found.sort();
    let mut expected = [
        "plegd/v1/Bad.proto: the package plegd.v2 does not match the directory",
        "plegd/v1/Bad.proto: the file's name is not lower_snake_case",
        "plegd/v1/Bad.proto: the go_package is not plegd/v1;plegdv1",
        "plegd.v2.lower: it has no comment",
        "plegd.v2.lower: not PascalCase",
        "plegd.v2.lower.camelCase: it has no comment",
        "plegd.v2.lower.camelCase: not lower_snake_case",
        "plegd.v2.Twice.Kind: not lower_snake_case",
        "plegd.v2.Color.COLOR_NONE: the zero value is not COLOR_UNSPECIFIED",
        "plegd.v2.Color.RED: it does not begin with COLOR_",
        "plegd.v2.Color.COLOR_dark: not UPPER_SNAKE_CASE",
        "plegd.v2.Things: it does not end in Service",
        "plegd.v2.Things.Get: the request is not GetRequest",
        "plegd.v2.Things.Get: the response is not GetResponse",
        "plegd.v2.Things.put: not PascalCase",
        "plegd.v2.Things.put: the request is not putRequest",
        "plegd.v2.Things.put: the response is not putResponse",
        "plegd.v2.Twice: it is the request or response of 3 calls",
    ];
    expected.sort_unstable();
    assert_eq!(found, expected);
}

/// No element of the API is removed, renamed, renumbered or given another type. `UPDATE_PROTO=1 cargo test --test proto` adds new
/// elements to the list.
#[test]
fn nothing_in_the_api_ever_changes() {
    let now: BTreeSet<String> = files(Path::new(PROTO)).iter().flat_map(inventory).collect();
    let golden = fs::read_to_string(GOLDEN).unwrap_or_default();
    let before: BTreeSet<String> = golden.lines().map(str::to_owned).collect();
    let gone: Vec<&String> = before.difference(&now).collect();
    assert!(
        gone.is_empty(),
        "these elements have changed or disappeared, which breaks existing clients: {gone:#?}"
    );
    let new: Vec<&String> = now.difference(&before).collect();
    if std::env::var_os("UPDATE_PROTO").is_some() {
        let lines: String = now.iter().map(|line| format!("{line}\n")).collect();
        fs::write(GOLDEN, lines).unwrap();
    } else {
        assert!(new.is_empty(), "new: {new:#?}\nIf they are final: UPDATE_PROTO=1 cargo test --test proto");
    }
}

// The rules.

/// All violations, each with its element.
fn violations(files: &[FileDescriptorProto]) -> Vec<String> {
    let mut found = Vec::new();
    let mut uses: BTreeMap<String, usize> = BTreeMap::new();
    for file in files {
        let (package, name) = (file.package(), file.name());
        let mut report_file = |what: &str| found.push(format!("{name}: {what}"));
        let (dir, base) = name.rsplit_once('/').unwrap_or_default();
        if dir != package.replace('.', "/") {
            report_file(&format!("the package {package} does not match the directory"));
        }
        if !is_lower_snake(base.trim_end_matches(".proto")) {
            report_file("the file's name is not lower_snake_case");
        }
        if file.options.as_ref().and_then(|it| it.go_package.as_deref()) != Some("plegd/v1;plegdv1") {
            report_file("the go_package is not plegd/v1;plegdv1");
        }
        if file.syntax() != "proto3" {
            report_file("the syntax is not proto3");
        }
        let mut lint = Lint { comments: comments(file), found: &mut found };
        for (index, message) in file.message_type.iter().enumerate() {
            lint.message(&[MESSAGE_OF_FILE, index as i32], package, message);
        }
        for (index, kind) in file.enum_type.iter().enumerate() {
            lint.enumeration(&[ENUM_OF_FILE, index as i32], package, kind);
        }
        for (index, service) in file.service.iter().enumerate() {
            lint.service(&[SERVICE_OF_FILE, index as i32], package, service);
            for method in &service.method {
                for message in [method.input_type(), method.output_type()] {
                    *uses.entry(message.trim_start_matches('.').to_owned()).or_default() += 1;
                }
            }
        }
    }
    let shared = uses.into_iter().filter(|(_, calls)| *calls > 1);
    found.extend(
        shared.map(|(name, calls)| format!("{name}: it is the request or response of {calls} calls")),
    );
    found
}

/// The paths of all elements with a comment.
fn comments(file: &FileDescriptorProto) -> BTreeSet<Vec<i32>> {
    let info = file.source_code_info.as_ref().expect("with comments");
    let commented = info.location.iter().filter(|location| !location.leading_comments().trim().is_empty());
    commented.map(|location| location.path.clone()).collect()
}

struct Lint<'a> {
    comments: BTreeSet<Vec<i32>>,
    found: &'a mut Vec<String>,
}

impl Lint<'_> {
    fn report(&mut self, name: &str, what: &str) {
        self.found.push(format!("{name}: {what}"));
    }

    fn named(&mut self, path: &[i32], name: &str, is_well_named: fn(&str) -> bool, case: &str) {
        if !self.comments.contains(path) {
            self.report(name, "it has no comment");
        }
        if !is_well_named(name.rsplit('.').next().unwrap_or_default()) {
            self.report(name, &format!("not {case}"));
        }
    }

    fn message(&mut self, path: &[i32], scope: &str, message: &DescriptorProto) {
        // The entry type of a map is generated.
        if message.options.as_ref().is_some_and(|options| options.map_entry()) {
            return;
        }
        let name = format!("{scope}.{}", message.name());
        self.named(path, &name, is_pascal, "PascalCase");
        // Each `optional` field has a generated oneof.
        let hidden: BTreeSet<Option<i32>> =
            message.field.iter().filter(|it| it.proto3_optional()).map(|it| it.oneof_index).collect();
        for (index, field) in message.field.iter().enumerate() {
            let path = [path, &[FIELD_OF_MESSAGE, index as i32]].concat();
            self.named(&path, &format!("{name}.{}", field.name()), is_lower_snake, "lower_snake_case");
        }
        for (index, oneof) in message.oneof_decl.iter().enumerate() {
            let index = index as i32;
            if !hidden.contains(&Some(index)) {
                let path = [path, &[ONEOF_OF_MESSAGE, index]].concat();
                self.named(&path, &format!("{name}.{}", oneof.name()), is_lower_snake, "lower_snake_case");
            }
        }
        for (index, nested) in message.nested_type.iter().enumerate() {
            self.message(&[path, &[MESSAGE_OF_MESSAGE, index as i32]].concat(), &name, nested);
        }
        for (index, kind) in message.enum_type.iter().enumerate() {
            self.enumeration(&[path, &[ENUM_OF_MESSAGE, index as i32]].concat(), &name, kind);
        }
    }

    fn enumeration(&mut self, path: &[i32], scope: &str, kind: &EnumDescriptorProto) {
        let name = format!("{scope}.{}", kind.name());
        self.named(path, &name, is_pascal, "PascalCase");
        if kind.options.as_ref().is_some_and(|options| options.allow_alias()) {
            self.report(&name, "it has two names for one value");
        }
        let prefix = upper_snake(kind.name());
        for (index, value) in kind.value.iter().enumerate() {
            let path = [path, &[VALUE_OF_ENUM, index as i32]].concat();
            let name = format!("{name}.{}", value.name());
            self.named(&path, &name, is_upper_snake, "UPPER_SNAKE_CASE");
            if !value.name().starts_with(&format!("{prefix}_")) {
                self.report(&name, &format!("it does not begin with {prefix}_"));
            }
            if value.number() == 0 && value.name() != format!("{prefix}_UNSPECIFIED") {
                self.report(&name, &format!("the zero value is not {prefix}_UNSPECIFIED"));
            }
        }
    }

    fn service(&mut self, path: &[i32], scope: &str, service: &ServiceDescriptorProto) {
        let name = format!("{scope}.{}", service.name());
        self.named(path, &name, is_pascal, "PascalCase");
        if !service.name().ends_with("Service") {
            self.report(&name, "it does not end in Service");
        }
        for (index, method) in service.method.iter().enumerate() {
            let path = [path, &[METHOD_OF_SERVICE, index as i32]].concat();
            let name = format!("{name}.{}", method.name());
            self.named(&path, &name, is_pascal, "PascalCase");
            for (role, suffix, message) in
                [("request", "Request", method.input_type()), ("response", "Response", method.output_type())]
            {
                let expected = format!("{}{suffix}", method.name());
                if message != format!(".{scope}.{expected}") {
                    self.report(&name, &format!("the {role} is not {expected}"));
                }
            }
        }
    }
}

fn is_lower_snake(name: &str) -> bool {
    name.split('_').all(|word| !word.is_empty())
        && name.chars().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '_')
}

fn is_upper_snake(name: &str) -> bool {
    name == name.to_ascii_uppercase() && is_lower_snake(&name.to_ascii_lowercase())
}

fn is_pascal(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_uppercase())
        && name.chars().all(|it| it.is_ascii_alphanumeric())
}

/// `EVENT_TYPE` of `EventType`.
fn upper_snake(pascal: &str) -> String {
    let mut snake = String::new();
    for letter in pascal.chars() {
        if letter.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_uppercase());
    }
    snake
}

// The inventory.

/// One line for each element that clients depend on.
fn inventory(file: &FileDescriptorProto) -> Vec<String> {
    let mut lines = Vec::new();
    let package = file.package();
    file.message_type.iter().for_each(|message| fields(package, message, &mut lines));
    file.enum_type.iter().for_each(|kind| values(package, kind, &mut lines));
    for service in &file.service {
        for method in &service.method {
            let stream = |is| if is { "stream " } else { "" };
            lines.push(format!(
                "rpc {package}.{}.{} ({}{}) returns ({}{})",
                service.name(),
                method.name(),
                stream(method.client_streaming()),
                method.input_type().trim_start_matches('.'),
                stream(method.server_streaming()),
                method.output_type().trim_start_matches('.'),
            ));
        }
    }
    lines
}

fn fields(scope: &str, message: &DescriptorProto, lines: &mut Vec<String>) {
    let name = format!("{scope}.{}", message.name());
    lines.push(format!("message {name}"));
    for field in &message.field {
        let oneof = field.oneof_index.filter(|_| !field.proto3_optional());
        let oneof = oneof.map(|index| format!(" in {}", message.oneof_decl[index as usize].name()));
        lines.push(format!(
            "field {name}.{} = {}: {}{}",
            field.name(),
            field.number(),
            kind(field),
            oneof.unwrap_or_default()
        ));
    }
    message.nested_type.iter().for_each(|nested| fields(&name, nested, lines));
    message.enum_type.iter().for_each(|kind| values(&name, kind, lines));
}

fn values(scope: &str, kind: &EnumDescriptorProto, lines: &mut Vec<String>) {
    let name = format!("{scope}.{}", kind.name());
    lines.push(format!("enum {name}"));
    for value in &kind.value {
        lines.push(format!("value {name}.{} = {}", value.name(), value.number()));
    }
}

/// The type of a field, with its label.
fn kind(field: &FieldDescriptorProto) -> String {
    let kind = match field.r#type() {
        Type::Message | Type::Enum => field.type_name().trim_start_matches('.').to_owned(),
        scalar => scalar.as_str_name().trim_start_matches("TYPE_").to_ascii_lowercase(),
    };
    match field.label() {
        Label::Repeated => format!("repeated {kind}"),
        _ if field.proto3_optional() => format!("optional {kind}"),
        _ => kind,
    }
}
