//! `deploy/grafana/plegd.json`, generated from the panels in `panels`.

use serde_json::{Value, json};

use super::panels::{Kind, Panel, ROWS};

/// Its path.
pub const FILE: &str = "deploy/grafana/plegd.json";

/// Columns of Grafana's grid.
const WIDTH: u64 = 24;

/// The matchers for the selected clusters and nodes.
const CHOSEN: &str = r#"cluster=~"$cluster", node=~"$node""#;

/// The file.
pub fn file() -> String {
    let mut panels = Vec::new();
    let mut y = 0;
    for (row, content) in ROWS {
        panels.push(json!({
            "type": "row", "title": row, "collapsed": false, "id": panels.len() + 1, "panels": [],
            "gridPos": { "x": 0, "y": y, "w": WIDTH, "h": 1 },
        }));
        y += 1;
        let (mut x, mut highest) = (0, 0);
        for panel in *content {
            let (w, h) = panel.kind.size();
            if x + w > WIDTH {
                (x, y, highest) = (0, y + highest, 0);
            }
            let mut value = panel_value(panel);
            value["id"] = json!(panels.len() + 1);
            value["gridPos"] = json!({ "x": x, "y": y, "w": w, "h": h });
            panels.push(value);
            (x, highest) = (x + w, highest.max(h));
        }
        y += highest;
    }
    let dashboard = json!({
        "id": null,
        "uid": "plegd",
        "title": "plegd",
        "description": "Pod lifecycle events of the nodes: health, detection paths, arbitration, subscribers, runtime calls, resources.",
        "tags": ["plegd", "kubernetes", "node"],
        "schemaVersion": 39,
        "version": 1,
        "editable": true,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": { "from": "now-1h", "to": "now" },
        "timezone": "browser",
        "annotations": { "list": [] },
        "links": [],
        "templating": { "list": [
            { "name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": {} },
            variable("cluster", "Cluster", "label_values(plegd_build_info, cluster)"),
            variable("node", "Node", r#"label_values(plegd_build_info{cluster=~"$cluster"}, node)"#),
        ] },
        "panels": panels,
    });
    format!("{dashboard:#}\n")
}

/// Every expression in the file, with the title of its panel.
pub fn expressions() -> Vec<(String, String)> {
    let file: Value = serde_json::from_str(&super::text(FILE)).expect("JSON");
    let panels = file["panels"].as_array().expect("panels").clone();
    let of = |panel: &Value| -> Vec<(String, String)> {
        let title = panel["title"].as_str().expect("a title").to_owned();
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        let expr = |target: &Value| target["expr"].as_str().expect("an expression").to_owned();
        targets.iter().map(|target| (title.clone(), expr(target))).collect()
    };
    panels.iter().flat_map(of).collect()
}

/// The expression that Grafana sends if all nodes are selected.
pub fn as_sent(expr: &str, interval: &str) -> String {
    expr.replace("$cluster", ".*").replace("$node", ".*").replace("$__rate_interval", interval)
}

/// A variable with all values selected by default. `.*` also matches series without the label.
fn variable(name: &str, label: &str, query: &str) -> Value {
    json!({
        "name": name, "label": label, "type": "query", "query": { "query": query, "refId": name },
        "definition": query, "datasource": source(), "refresh": 2, "sort": 1,
        "multi": true, "includeAll": true, "allValue": ".*", "current": { "text": "All", "value": "$__all" },
    })
}

fn source() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}

fn panel_value(panel: &Panel) -> Value {
    let heatmap = panel.kind == Kind::Heatmap;
    let targets = panel.queries.iter().zip('A'..='Z').map(|((expr, legend), id)| {
        json!({
            "refId": id.to_string(), "datasource": source(), "expr": expr.replace("CHOSEN", CHOSEN),
            "legendFormat": legend, "range": panel.kind != Kind::Figure, "instant": panel.kind == Kind::Figure,
            "format": if heatmap { "heatmap" } else { "time_series" },
        })
    });
    let (kind, options, custom) = match panel.kind {
        Kind::Figure => (
            "stat",
            json!({ "colorMode": "value", "graphMode": "none", "reduceOptions": { "calcs": ["lastNotNull"] } }),
            json!({}),
        ),
        Kind::Lines | Kind::Stacked => (
            "timeseries",
            json!({ "legend": { "displayMode": "list", "placement": "bottom" }, "tooltip": { "mode": "multi", "sort": "desc" } }),
            if panel.kind == Kind::Stacked {
                json!({ "fillOpacity": 40, "stacking": { "mode": "normal", "group": "A" } })
            } else {
                json!({ "fillOpacity": 5, "stacking": { "mode": "none", "group": "A" } })
            },
        ),
        Kind::Heatmap => (
            "heatmap",
            json!({
                "calculate": false, "cellGap": 0, "yAxis": { "unit": panel.unit },
                "color": { "mode": "scheme", "scheme": "Spectral", "steps": 64 }, "tooltip": { "mode": "single", "yHistogram": true },
            }),
            json!({}),
        ),
    };
    json!({
        "type": kind, "title": panel.title, "description": panel.description, "datasource": source(), "options": options,
        "targets": targets.collect::<Vec<_>>(),
        "fieldConfig": { "defaults": { "unit": panel.unit, "min": 0, "custom": custom }, "overrides": [] },
    })
}
