use super::*;

fn problem(text: &str) -> String {
    Scenario::read(text).unwrap_err().to_string()
}

fn step(text: &str) -> Result<Step, FormatError> {
    let mut scenario = Scenario::read(&format!(r#"{{"steps": [{text}]}}"#))?;
    Ok(scenario.steps.remove(0))
}

#[test]
fn missing_keys_have_their_default_values() {
    let scenario = Scenario::read(r#"{"steps": []}"#).unwrap();
    assert_eq!(scenario.runtime, Runtime::default());
    assert_eq!((scenario.events, scenario.has_cri), (Events::Stream, true));
    assert!(scenario.published.is_empty() && scenario.plegd.is_empty() && scenario.env.is_empty());
}

#[test]
fn the_deprecated_name_of_published_is_accepted() {
    let deprecated = Scenario::read(r#"{"told": {"c1": ["Started"]}, "steps": []}"#).unwrap();
    let published = Scenario::read(r#"{"published": {"c1": ["Started"]}, "steps": []}"#).unwrap();
    assert_eq!(deprecated, published);
    assert_eq!(
        problem(r#"{"told": {}, "published": {}, "steps": []}"#),
        "told: is a deprecated name of \"published\"; keep one of them"
    );
}

#[test]
fn an_error_has_its_place_and_a_suggestion() {
    let container = |field: &str| {
        format!(
            r#"{{"steps": [{{"do": "ready"}}, {{"do": "container", "status": {{"id": "c", {field}}}}}]}}"#
        )
    };
    for (text, expected) in [
        (r#"{"step": []}"#.to_owned(), r#"scenario: unknown key "step"; did you mean "steps"?"#),
        ("{}".into(), r#"the key "steps" is missing"#),
        ("{\"steps\": [\n{]}".into(), "line 2, column 2: key must be a string"),
        (r#"{"steps": [{"do": "conteiner"}]}"#.into(), r#"did you mean "container"?"#),
        (r#"{"steps": [{"id": "c"}]}"#.into(), r#"steps[0]: the key "do" is missing"#),
        (
            container(r#""exit_cod": 1"#),
            r#"steps[1].status: unknown key "exit_cod"; did you mean "exit_code"?"#,
        ),
        (container(r#""exit_code": "1""#), "steps[1].status.exit_code: expected an integer"),
        (container(r#""state": "CONTAINER_EXITTED""#), r#"did you mean "CONTAINER_EXITED"?"#),
        (container(r#""started_at": "then""#), "steps[1].status.started_at: expected a time"),
        (container(r#""metadata": {"nam": "x"}"#), "steps[1].status.metadata: unknown key"),
        (
            r#"{"steps": [{"do": "fail", "method": "ContainerStat", "code": null}]}"#.into(),
            r#"steps[0].method: unknown method "ContainerStat"; did you mean "ContainerStatus"?"#,
        ),
        (r#"{"steps": [{"do": "fail", "method": "Version"}]}"#.into(), r#"the key "code" is missing"#),
        (r#"{"steps": [{"do": "wait", "seconds": -1}]}"#.into(), "steps[0].seconds: expected a number"),
        (r#"{"steps": [{"do": "cli", "args": ["run"]}]}"#.into(), "steps[0].args: unknown verb \"run\""),
        (
            r#"{"steps": [{"do": "ready"}, {"do": "down", "before": true}]}"#.into(),
            "steps[1]: steps with \"before\" must come first",
        ),
        (
            r#"{"steps": [{"do": "ready", "before": true}]}"#.into(),
            "steps[0]: requires plegd, which is not started",
        ),
        (
            r#"{"steps": [{"do": "collect", "name": "w"}]}"#.into(),
            r#"steps[0]: no earlier cli step has "bg": "w""#,
        ),
        (
            r#"{"steps": [{"do": "event", "raw": {}, "id": "c"}]}"#.into(),
            r#""raw" is the complete event; "id" cannot be combined"#,
        ),
    ] {
        let problem = problem(&text);
        assert!(problem.contains(expected), "{text}\ngives {problem}\ninstead of {expected}");
    }
}

#[test]
fn a_status_is_read_as_crictl_prints_it() {
    let text = r#"{"do": "container", "sandbox": "s", "status": {"id": "c", "createdAt": "2027-01-15T08:00:00Z",
        "exitCode": 3, "logPath": "x", "mounts": [], "imageRef": "y", "state": "CONTAINER_EXITED"}}"#;
    let Action::Container(put) = step(text).unwrap().action else { panic!("a container") };
    assert_eq!(put.status.exit_code, Some(3));
    assert_eq!(put.status.created_at, Some(Time::At(1_800_000_000_000_000_000)));
    assert_eq!((put.listed, put.labels), (None, None));
}

#[test]
fn null_differs_from_missing_for_listed_and_code() {
    let listed = |listed: &str| {
        let text = format!(r#"{{"do": "sandbox", "status": {{"id": "s"}}{listed}}}"#);
        let Action::Sandbox(put) = step(&text).unwrap().action else { panic!("a sandbox") };
        put.listed
    };
    assert_eq!(listed(""), None);
    assert_eq!(listed(r#", "listed": null"#), Some(ListedAs::Not));
    assert_eq!(listed(r#", "listed": {}"#), Some(ListedAs::With(SandboxFields::default())));

    let fail = |code: &str| {
        let text = format!(r#"{{"do": "fail", "method": "Version"{code}}}"#);
        let Action::Fail(fail) = step(&text).unwrap().action else { panic!("a failure") };
        fail.answer
    };
    assert_eq!(fail(r#", "code": null"#), None);
    assert_eq!(fail(r#", "code": "EMPTY""#), Some(Answer::Empty));
    assert_eq!(fail(r#", "delay": 2"#), Some(Answer::Right));
    let not_found = Answer::Error(Code::NotFound, "gone".into());
    assert_eq!(fail(r#", "code": "NOT_FOUND", "message": "gone""#), Some(not_found));
}
