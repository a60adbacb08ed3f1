//! The modules of `src` form layers: dependencies point down, and no modules form a cycle.
//!
//! The graph is derived from the sources: a module depends on another one if its code (without unit tests and comments) names
//! `crate::other`. The layers are those of the table in `src/lib.rs`.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod tree;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use tree::root;

/// From the top down. A module may use those of its own layer, as long as there is no cycle, and those of the layers below.
const LAYERS: [(&str, &[&str]); 8] = [
    ("programs", &["cli", "daemon", "scenario", "print"]),
    ("serving", &["api", "http", "page", "serve"]),
    ("composition", &["app"]),
    ("detection", &["supervisor", "relister", "evented", "fresh", "watch"]),
    ("arbitration", &["arbiter", "path_comparison"]),
    ("storage", &["cache", "journal", "state"]),
    ("standalone", &["client", "sim"]),
    (
        "foundation",
        &[
            "accept",
            "clock",
            "config",
            "cri",
            "error_info",
            "health",
            "live",
            "metrics",
            "model",
            "pod_summary",
            "printable",
            "socket_path",
            "traces",
            "v1",
            "version",
        ],
    ),
];

/// Modules for tests, benches and fuzz targets alone, which reach into every layer.
const INTERNAL: [&str; 3] = ["benching", "fuzzing", "schedules"];

/// The modules that the daemon's core must not use, although they are in a lower layer.
const STANDALONE: [&str; 4] = ["client", "sim", "scenario", "print"];

type Graph = BTreeMap<String, BTreeSet<String>>;

#[test]
fn no_modules_form_a_cycle() {
    let graph = graph();
    let largest = components(&graph).into_iter().max_by_key(BTreeSet::len).expect("a module");
    assert_eq!(largest.len(), 1, "these modules depend on each other: {largest:?}");
}

#[test]
fn dependencies_point_down() {
    let layer_of = |module: &str| LAYERS.iter().position(|(_, modules)| modules.contains(&module));
    let mut wrong = Vec::new();
    for (module, used) in graph() {
        let Some(layer) = layer_of(&module) else {
            panic!("{module} is in no layer: add it to LAYERS and to the table in src/lib.rs")
        };
        for other in used {
            if layer_of(&other).is_none_or(|below| below < layer) {
                wrong.push(format!("{module} ({}) uses {other}", LAYERS[layer].0));
            }
        }
    }
    assert!(wrong.is_empty(), "dependencies against the layers: {wrong:#?}");
}

#[test]
fn the_core_uses_no_standalone_module() {
    let core = ["detection", "arbitration", "storage", "composition"];
    let core = LAYERS.iter().filter(|(name, _)| core.contains(name)).flat_map(|(_, modules)| *modules);
    let graph = graph();
    for module in core {
        let used = graph.get(*module).into_iter().flatten();
        let standalone: Vec<_> = used.filter(|other| STANDALONE.contains(&other.as_str())).collect();
        assert!(standalone.is_empty(), "{module} uses {standalone:?}");
    }
}

#[test]
fn the_graph_is_that_of_the_sources() {
    let graph = graph();
    assert!(graph["arbiter"].contains("cache") && graph["app"].contains("arbiter"), "{graph:#?}");
    assert!(!graph["cache"].contains("arbiter"));
    let cyclic = Graph::from([
        ("a".into(), BTreeSet::from(["b".into()])),
        ("b".into(), BTreeSet::from(["c".into()])),
        ("c".into(), BTreeSet::from(["a".into()])),
        ("d".into(), BTreeSet::from(["a".into()])),
    ]);
    assert_eq!(components(&cyclic).iter().map(BTreeSet::len).max(), Some(3));
    let code = "use crate::{\n    a::{b, crate_c},\n    model::X,\n}; // crate::config\nfn f() { crate::clock::now() }";
    let code = without_comments(code);
    assert_eq!(used_in(&code), ["a", "clock", "model"].map(str::to_owned).into());
}

/// Each module of the library, and the modules that it uses.
fn graph() -> Graph {
    let library = fs::read_to_string(root().join("src/lib.rs")).expect("src/lib.rs");
    let modules = library.lines().filter_map(|line| {
        let line = line.trim_start_matches("pub ").trim_start_matches("pub(crate) ");
        line.strip_prefix("mod ")?.strip_suffix(';')
    });
    let modules: BTreeSet<&str> = modules.filter(|module| !INTERNAL.contains(module)).collect();
    let mut graph = Graph::new();
    for module in &modules {
        let mut used = BTreeSet::new();
        read(&root().join(format!("src/{module}.rs")), &mut used);
        used.retain(|other| other != module && modules.contains(other.as_str()));
        graph.insert((*module).to_owned(), used);
    }
    graph
}

/// Adds the modules that a file and its submodules use, unit tests aside.
fn read(file: &Path, used: &mut BTreeSet<String>) {
    let Ok(code) = fs::read_to_string(file) else { return };
    let code = without_comments(&code);
    let (code, tests) = without_tests(&code);
    used.extend(used_in(&code));
    let Ok(entries) = fs::read_dir(file.with_extension("")) else { return };
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if !tests.contains(&name) && path.extension().is_some_and(|it| it == "rs") {
            read(&path, used);
        }
    }
}

/// The code without its inline test module, and the names of test modules in files of their own.
fn without_tests(code: &str) -> (String, BTreeSet<String>) {
    let parts = code.split("#[cfg(test)]\n");
    let (mut rest, mut names) = (String::new(), BTreeSet::new());
    for (n, part) in parts.enumerate() {
        let declaration = part.trim_start_matches("pub(crate) ").strip_prefix("mod ").filter(|_| n > 0);
        match declaration {
            // An inline module of tests is the last item of its file.
            Some(it) if it.starts_with("tests {") => break,
            Some(it) => names.extend(name(it)),
            None => {}
        }
        rest.push_str(part);
    }
    (rest, names)
}

fn without_comments(code: &str) -> String {
    code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The modules that `crate::module` and `use crate::{module, …}` name.
fn used_in(code: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_') {
            continue;
        }
        match rest.strip_prefix('{') {
            Some(group) => used.extend(names_in_group(group)),
            None => used.extend(name(rest)),
        }
    }
    used
}

/// The first names of the parts of a group, up to its end.
fn names_in_group(group: &str) -> Vec<String> {
    let (mut names, mut depth, mut begins) = (Vec::new(), 0, 0);
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => {
                names.extend(name(group[begins..at].trim_start()));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.extend(name(group[begins..at].trim_start()));
                begins = at + 1;
            }
            _ => {}
        }
    }
    names
}

fn name(text: &str) -> Option<String> {
    let end = text.find(|it: char| !it.is_alphanumeric() && it != '_').unwrap_or(text.len());
    (end > 0).then(|| text[..end].to_owned())
}

/// The strongly connected components: modules of which each depends on each, on whatever way.
fn components(graph: &Graph) -> Vec<BTreeSet<String>> {
    let reached: BTreeMap<&String, BTreeSet<&String>> =
        graph.keys().map(|it| (it, reachable(graph, it))).collect();
    let component = |module: &String| {
        let others =
            reached[module].iter().filter(|other| reached.get(**other).is_some_and(|it| it.contains(module)));
        others.map(|other| (*other).clone()).chain([module.clone()]).collect()
    };
    graph.keys().map(component).collect()
}

fn reachable<'a>(graph: &'a Graph, from: &'a String) -> BTreeSet<&'a String> {
    let mut reached = BTreeSet::new();
    let mut pending = vec![from];
    while let Some(module) = pending.pop() {
        for other in graph.get(module).into_iter().flatten() {
            if reached.insert(other) {
                pending.push(other);
            }
        }
    }
    reached
}
