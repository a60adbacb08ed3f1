//! The API is written as buf's STANDARD and COMMENTS rules want it, and nothing in it ever changes.
//!
//! The rules are checked on the descriptors, so that buf need not be there; where it is, `buf lint proto` says the same.

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

/// Fields of descriptors, as the paths of source locations have them.
const MESSAGE_OF_FILE: i32 = 4;
const ENUM_OF_FILE: i32 = 5;
const SERVICE_OF_FILE: i32 = 6;
const FIELD_OF_MESSAGE: i32 = 2;
const MESSAGE_OF_MESSAGE: i32 = 3;
const ENUM_OF_MESSAGE: i32 = 4;
const ONEOF_OF_MESSAGE: i32 = 8;
const VALUE_OF_ENUM: i32 = 2;
const METHOD_OF_SERVICE: i32 = 2;

/// All files of plegd's own API below a folder.
fn files(folder: &Path) -> Vec<FileDescriptorProto> {
    let mut names: Vec<String> = fs::read_dir(folder.join("plegd/v1"))
        .unwrap()
        .map(|entry| format!("plegd/v1/{}", entry.unwrap().file_name().to_str().unwrap()))
        .collect();
    names.sort();
    let mut compiler = protox::Compiler::new([folder]).unwrap();
    compiler.include_source_info(true).include_imports(false);
    compiler.open_files(&names).unwrap_or_else(|error| panic!("{error}"));
    compiler.file_descriptor_set().file
}

#[test]
fn the_api_is_written_by_the_rules() {
    let complaints = complaints(&files(Path::new(PROTO)));
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// Each rule finds what breaks it.
#[test]
fn what_is_not_written_by_the_rules_is_found() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("plegd/v1")).unwrap();
    let bad = r#"
        syntax = "proto3";
        package plegd.v2;
        message lower { string camelCase = 1; }
        // Said.
        message Twice {
          // Said.
          oneof Kind {
            // Said.
            Color color = 1;
          }
        }
        // Said.
        enum Color {
          // Said.
          COLOR_NONE = 0;
          // Said.
          RED = 1;
          // Said.
          COLOR_dark = 2;
        }
        // Said.
        service Things {
          // Said.
          rpc Get(Twice) returns (Twice);
          // Said.
          rpc put(Twice) returns (PutResponse);
        }
        // Said.
        message PutResponse {}
    "#;
    fs::write(folder.path().join("plegd/v1/Bad.proto"), bad).unwrap();
    let mut found = complaints(&files(folder.path()));
    found.sort();
    let mut expected = [
        "plegd/v1/Bad.proto: the package plegd.v2 does not match the folder",
        "plegd/v1/Bad.proto: the file's name is not lower_snake_case",
        "plegd/v1/Bad.proto: there is no go_package like that of the others",
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

/// What is there is there for ever: neither its name nor its number nor its type changes, nor does it go. What is new is
/// taken into the list by `UPDATE_PROTO=1 cargo test --test proto`.
#[test]
fn nothing_in_the_api_ever_changes() {
    let now: BTreeSet<String> = files(Path::new(PROTO)).iter().flat_map(inventory).collect();
    let golden = fs::read_to_string(GOLDEN).unwrap_or_default();
    let before: BTreeSet<String> = golden.lines().map(str::to_owned).collect();
    let gone: Vec<&String> = before.difference(&now).collect();
    assert!(
        gone.is_empty(),
        "these are no longer what they were, which breaks clients that are built: {gone:#?}"
    );
    let new: Vec<&String> = now.difference(&before).collect();
    if std::env::var_os("UPDATE_PROTO").is_some() {
        let lines: String = now.iter().map(|line| format!("{line}\n")).collect();
        fs::write(GOLDEN, lines).unwrap();
    } else {
        assert!(
            new.is_empty(),
            "new: {new:#?}\nIf they are as they are to stay: UPDATE_PROTO=1 cargo test --test proto"
        );
    }
}

// The rules.

/// All that is wrong, each with where.
fn complaints(files: &[FileDescriptorProto]) -> Vec<String> {
    let mut found = Vec::new();
    let mut uses: BTreeMap<String, usize> = BTreeMap::new();
    for file in files {
        let (package, name) = (file.package(), file.name());
        let mut file_complains = |what: &str| found.push(format!("{name}: {what}"));
        let (folder, base) = name.rsplit_once('/').unwrap_or_default();
        if folder != package.replace('.', "/") {
            file_complains(&format!("the package {package} does not match the folder"));
        }
        if !is_lower_snake(base.trim_end_matches(".proto")) {
            file_complains("the file's name is not lower_snake_case");
        }
        if file.options.as_ref().and_then(|it| it.go_package.as_deref()) != Some("plegd/v1;plegdv1") {
            file_complains("there is no go_package like that of the others");
        }
        if file.syntax() != "proto3" {
            file_complains("the syntax is not proto3");
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

/// Where a comment stands before something.
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
    fn complain(&mut self, name: &str, what: &str) {
        self.found.push(format!("{name}: {what}"));
    }

    fn named(&mut self, path: &[i32], name: &str, is_well_named: fn(&str) -> bool, case: &str) {
        if !self.comments.contains(path) {
            self.complain(name, "it has no comment");
        }
        if !is_well_named(name.rsplit('.').next().unwrap_or_default()) {
            self.complain(name, &format!("not {case}"));
        }
    }

    fn message(&mut self, path: &[i32], scope: &str, message: &DescriptorProto) {
        // What a map is made of has no name that anybody has given.
        if message.options.as_ref().is_some_and(|options| options.map_entry()) {
            return;
        }
        let name = format!("{scope}.{}", message.name());
        self.named(path, &name, is_pascal, "PascalCase");
        // Each `optional` field has a oneof of its own, which is nowhere written.
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
            self.complain(&name, "it has two names for one value");
        }
        let prefix = upper_snake(kind.name());
        for (index, value) in kind.value.iter().enumerate() {
            let path = [path, &[VALUE_OF_ENUM, index as i32]].concat();
            let name = format!("{name}.{}", value.name());
            self.named(&path, &name, is_upper_snake, "UPPER_SNAKE_CASE");
            if !value.name().starts_with(&format!("{prefix}_")) {
                self.complain(&name, &format!("it does not begin with {prefix}_"));
            }
            if value.number() == 0 && value.name() != format!("{prefix}_UNSPECIFIED") {
                self.complain(&name, &format!("the zero value is not {prefix}_UNSPECIFIED"));
            }
        }
    }

    fn service(&mut self, path: &[i32], scope: &str, service: &ServiceDescriptorProto) {
        let name = format!("{scope}.{}", service.name());
        self.named(path, &name, is_pascal, "PascalCase");
        if !service.name().ends_with("Service") {
            self.complain(&name, "it does not end in Service");
        }
        for (index, method) in service.method.iter().enumerate() {
            let path = [path, &[METHOD_OF_SERVICE, index as i32]].concat();
            let name = format!("{name}.{}", method.name());
            self.named(&path, &name, is_pascal, "PascalCase");
            for (role, suffix, message) in
                [("request", "Request", method.input_type()), ("response", "Response", method.output_type())]
            {
                let wanted = format!("{}{suffix}", method.name());
                if message != format!(".{scope}.{wanted}") {
                    self.complain(&name, &format!("the {role} is not {wanted}"));
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

/// A line for all that a client is built on.
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

/// The type of a field, with what makes it another one on the wire or in code.
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
