//! Parses a scenario file.

use serde_json::Value;
use tonic::Code;

use super::{
    Action, Answer, Check, Cli, Collect, EventStep, Events, Fail, ListedAs, Payload, Put, RawEvent, Runtime,
    Scenario, ShortList, Step,
};
use crate::{
    scenario::{
        json::{FormatError, Object, Parse, one_of, readable},
        status::{Labels, WithId},
        time::{Seconds, Shift, Time},
    },
    sim::{Method, Subject, v1::ContainerEventType},
};

/// The deprecated name of the key `published`.
const DEPRECATED_PUBLISHED: &str = "told";

const KEYS: [&str; 13] = [
    "source",
    "right",
    "notes",
    "runtime",
    "events",
    "backlog",
    "cri",
    "plegd",
    "env",
    "starts_at",
    "published",
    DEPRECATED_PUBLISHED,
    "steps",
];

/// All steps, with their keys other than `do` and `before`.
const STEPS: [(&str, &[&str]); 17] = [
    ("sandbox", &["status", "listed", "kubelet"]),
    ("container", &["status", "sandbox", "listed", "kubelet"]),
    ("remove", &["id"]),
    ("event", &["id", "type", "payload", "created_at", "raw"]),
    ("fail", &["method", "id", "code", "message", "delay"]),
    ("list_twice", &["id"]),
    ("short_list", &["of", "after", "reset", "times"]),
    ("runtime", &["name", "version"]),
    ("has_cri", &["value"]),
    ("break_streams", &[]),
    ("down", &[]),
    ("up", &[]),
    ("clock", &["seconds"]),
    ("wait", &["seconds"]),
    ("ready", &[]),
    ("cli", &["args", "bg", "has", "lacks", "rc"]),
    ("collect", &["name", "timeout", "has", "lacks", "rc"]),
];

/// Verbs that only read, and that end by themselves or at Ctrl-C.
const VERBS: [(&str, ()); 4] = [("get", ()), ("wait", ()), ("watch", ()), ("status", ())];

const EVENT_TYPES: [(&str, ContainerEventType); 8] = [
    ("CREATED", ContainerEventType::ContainerCreatedEvent),
    ("STARTED", ContainerEventType::ContainerStartedEvent),
    ("STOPPED", ContainerEventType::ContainerStoppedEvent),
    ("DELETED", ContainerEventType::ContainerDeletedEvent),
    ("CONTAINER_CREATED_EVENT", ContainerEventType::ContainerCreatedEvent),
    ("CONTAINER_STARTED_EVENT", ContainerEventType::ContainerStartedEvent),
    ("CONTAINER_STOPPED_EVENT", ContainerEventType::ContainerStoppedEvent),
    ("CONTAINER_DELETED_EVENT", ContainerEventType::ContainerDeletedEvent),
];

const METHODS: [(&str, Method); 9] = [
    ("Version", Method::Version),
    ("Status", Method::Status),
    ("ListPodSandbox", Method::ListPodSandbox),
    ("StreamPodSandboxes", Method::StreamPodSandboxes),
    ("PodSandboxStatus", Method::PodSandboxStatus),
    ("ListContainers", Method::ListContainers),
    ("StreamContainers", Method::StreamContainers),
    ("ContainerStatus", Method::ContainerStatus),
    ("GetContainerEvents", Method::GetContainerEvents),
];

/// gRPC's codes as in its documentation.
pub(in crate::scenario) const CODES: [(&str, Code); 16] = [
    ("CANCELLED", Code::Cancelled),
    ("UNKNOWN", Code::Unknown),
    ("INVALID_ARGUMENT", Code::InvalidArgument),
    ("DEADLINE_EXCEEDED", Code::DeadlineExceeded),
    ("NOT_FOUND", Code::NotFound),
    ("ALREADY_EXISTS", Code::AlreadyExists),
    ("PERMISSION_DENIED", Code::PermissionDenied),
    ("RESOURCE_EXHAUSTED", Code::ResourceExhausted),
    ("FAILED_PRECONDITION", Code::FailedPrecondition),
    ("ABORTED", Code::Aborted),
    ("OUT_OF_RANGE", Code::OutOfRange),
    ("UNIMPLEMENTED", Code::Unimplemented),
    ("INTERNAL", Code::Internal),
    ("UNAVAILABLE", Code::Unavailable),
    ("DATA_LOSS", Code::DataLoss),
    ("UNAUTHENTICATED", Code::Unauthenticated),
];

// === impl Scenario ===

impl Parse for Scenario {
    fn parse(value: &Value, place: &str) -> Result<Self, FormatError> {
        let scenario = Object::new(value, place, &KEYS).map_err(|error| match error.place.is_empty() {
            true => FormatError { place: "scenario".to_owned(), ..error },
            false => error,
        })?;
        let published = match (scenario.optional("published")?, scenario.optional(DEPRECATED_PUBLISHED)?) {
            (Some(_), Some(_)) => {
                return Err(FormatError::new(
                    DEPRECATED_PUBLISHED,
                    "is a deprecated name of \"published\"; keep one of them",
                ));
            }
            (published, deprecated) => published.or(deprecated).unwrap_or_default(),
        };
        let steps: Vec<Step> = scenario.required("steps")?;
        check_order(&steps)?;
        Ok(Self {
            source: scenario.or_default("source")?,
            right: scenario.or_default("right")?,
            notes: scenario.or_default("notes")?,
            runtime: scenario.optional("runtime")?.unwrap_or_default(),
            events: scenario.optional("events")?.unwrap_or(Events::Stream),
            backlog: scenario.or_default("backlog")?,
            has_cri: scenario.optional("cri")?.unwrap_or(true),
            plegd: scenario.or_default("plegd")?,
            env: scenario.or_default("env")?,
            starts_at: scenario.optional("starts_at")?,
            published,
            steps,
        })
    }
}

/// Checks that steps before the start of plegd come first, and that a collected verb was started.
fn check_order(steps: &[Step]) -> Result<(), FormatError> {
    let (mut started, mut names) = (false, Vec::new());
    for (n, step) in steps.iter().enumerate() {
        let place = format!("steps[{n}]");
        let needs_plegd = matches!(step.action, Action::Ready | Action::Cli(_) | Action::Collect(_));
        if step.before && needs_plegd {
            return Err(FormatError::new(&place, "requires plegd, which is not started yet"));
        }
        if step.before && started {
            return Err(FormatError::new(&place, "steps with \"before\" must come first"));
        }
        started |= !step.before;
        match &step.action {
            Action::Cli(Cli { background: Some(name), .. }) => names.push(name),
            Action::Collect(Collect { name, .. }) if !names.contains(&name) => {
                return Err(FormatError::new(&place, format!("no earlier cli step has \"bg\": {name:?}")));
            }
            _ => {}
        }
    }
    Ok(())
}

// === impl Runtime ===

impl Parse for Runtime {
    fn parse(value: &Value, place: &str) -> Result<Self, FormatError> {
        let runtime = Object::new(value, place, &["name", "version"])?;
        Ok(Self { name: runtime.required("name")?, version: runtime.required("version")? })
    }
}

// === impl Events ===

impl Parse for Events {
    fn parse(value: &Value, place: &str) -> Result<Self, FormatError> {
        let words = [("stream", Self::Stream), ("eof", Self::Eof), ("unimplemented", Self::Unimplemented)];
        one_of(value, place, "kind of events", &words)
    }
}

// === impl Step ===

impl Parse for Step {
    fn parse(value: &Value, place: &str) -> Result<Self, FormatError> {
        let name = value.get("do").ok_or_else(|| FormatError::new(place, "the key \"do\" is missing"))?;
        let own = one_of(name, &format!("{place}.do"), "step", &STEPS)?;
        let keys: Vec<&str> = own.iter().copied().chain(["do", "before"]).collect();
        let step = Object::new(value, place, &keys)?;
        let action = Action::of(name.as_str().unwrap_or_default(), &step)?;
        let mut text = value.clone();
        if let Some(fields) = text.as_object_mut() {
            fields.remove("do");
            fields.remove("before");
        }
        let text = readable(&format!("{} {text}", name.as_str().unwrap_or_default()));
        Ok(Self { before: step.or_default("before")?, action, text })
    }
}

// === impl Action ===

impl Action {
    fn of(name: &str, step: &Object<'_>) -> Result<Self, FormatError> {
        Ok(match name {
            "sandbox" => Self::Sandbox(put(step)?),
            "container" => Self::Container(put(step)?),
            "remove" => Self::Remove { id: step.required("id")? },
            "event" => Self::Event(EventStep::of(step)?),
            "fail" => Self::Fail(Fail::of(step)?),
            "list_twice" => Self::ListTwice { id: step.required("id")? },
            "short_list" => Self::ShortList(ShortList::of(step)?),
            "runtime" => {
                Self::Runtime(Runtime { name: step.required("name")?, version: step.required("version")? })
            }
            "has_cri" => Self::HasCri(step.required("value")?),
            "break_streams" => Self::BreakStreams,
            "down" => Self::Down,
            "up" => Self::Up,
            "clock" => Self::Clock(step.required::<Shift>("seconds")?.0),
            "wait" => Self::Wait(step.required::<Seconds>("seconds")?.0),
            "ready" => Self::Ready,
            "cli" => Self::Cli(Cli::of(step)?),
            _ => Self::Collect(Collect::of(step)?),
        })
    }
}

/// A sandbox or container step.
fn put<F>(step: &Object<'_>) -> Result<Put<F>, FormatError>
where
    F: Parse,
    WithId<F>: Parse,
{
    let WithId { id, fields } = step.required("status")?;
    let listed = match step.optional("listed")? {
        Some(fields) => Some(ListedAs::With(fields)),
        None => step.is_null("listed").then_some(ListedAs::Not),
    };
    let kubelet: Option<bool> = step.optional("kubelet")?;
    let labels = kubelet.map(|kubelet| if kubelet { Labels::WithKubelets } else { Labels::AsWritten });
    Ok(Put { id, status: fields, sandbox: step.optional("sandbox")?, listed, labels })
}

// === impl EventStep ===

impl EventStep {
    fn of(step: &Object<'_>) -> Result<Self, FormatError> {
        if step.has("raw") {
            for key in ["id", "type", "payload", "created_at"] {
                if step.has(key) {
                    return Err(FormatError::new(
                        step.place(),
                        format!("\"raw\" is the complete event; {key:?} cannot be combined with it"),
                    ));
                }
            }
            return Ok(Self::Raw(Box::new(step.required("raw")?)));
        }
        let kind: Value = step.required("type")?;
        let payload: Option<Value> = step.optional("payload")?;
        let words = [("full", Payload::Full), ("none", Payload::None)];
        Ok(Self::About {
            id: step.required("id")?,
            kind: one_of(&kind, &step.place_of("type"), "type of event", &EVENT_TYPES)?,
            payload: payload
                .map(|payload| one_of(&payload, &step.place_of("payload"), "payload", &words))
                .transpose()?
                .unwrap_or(Payload::Full),
            created_at: step.optional("created_at")?,
        })
    }
}

/// An event of the backlog: an event step, with or without its `do`.
impl Parse for EventStep {
    fn parse(value: &Value, place: &str) -> Result<Self, FormatError> {
        let keys = ["do", "id", "type", "payload", "created_at", "raw"];
        Self::of(&Object::new(value, place, &keys)?)
    }
}

impl Parse for RawEvent {
    fn parse(value: &Value, place: &str) -> Result<Self, FormatError> {
        let keys = [
            "container_id",
            "container_event_type",
            "created_at",
            "pod_sandbox_status",
            "containers_statuses",
        ];
        let event = Object::new(value, place, &keys)?;
        let kind: Value = event.required("container_event_type")?;
        Ok(Self {
            id: event.required("container_id")?,
            kind: one_of(&kind, &event.place_of("container_event_type"), "type of event", &EVENT_TYPES)?,
            created_at: event.optional("created_at")?.unwrap_or(Time::FromNow(0)),
            sandbox: event.optional("pod_sandbox_status")?,
            containers: event.or_default("containers_statuses")?,
        })
    }
}

// === impl Fail ===

impl Fail {
    fn of(step: &Object<'_>) -> Result<Self, FormatError> {
        let method: Value = step.required("method")?;
        let code: Option<Value> = step.optional("code")?;
        let delay: Option<Seconds> = step.optional("delay")?;
        let answer = match (code, &delay) {
            (Some(code), _) => Some(Answer::of(&code, step)?),
            (None, Some(_)) if !step.has("code") => Some(Answer::Right),
            (None, None) if !step.has("code") => {
                return Err(FormatError::new(step.place(), "the key \"code\" is missing"));
            }
            _ => None,
        };
        Ok(Self {
            method: one_of(&method, &step.place_of("method"), "method", &METHODS)?,
            id: step.optional("id")?,
            answer,
            delay: delay.map(|delay| delay.0),
        })
    }
}

// === impl Answer ===

impl Answer {
    fn of(code: &Value, step: &Object<'_>) -> Result<Self, FormatError> {
        let message: Option<String> = step.optional("message")?;
        Ok(match code.as_str() {
            Some("EMPTY") => Self::Empty,
            Some("GARBAGE") => Self::Garbage,
            _ => {
                let code = one_of(code, &step.place_of("code"), "code", &CODES)?;
                Self::Error(code, message.unwrap_or_else(|| "failed by the scenario".to_owned()))
            }
        })
    }
}

// === impl ShortList ===

impl ShortList {
    fn of(step: &Object<'_>) -> Result<Self, FormatError> {
        let of: Value = step.required("of")?;
        let words = [("sandboxes", Subject::Sandbox), ("containers", Subject::Container)];
        Ok(Self {
            of: one_of(&of, &step.place_of("of"), "list", &words)?,
            after: step.required("after")?,
            reset: step.or_default("reset")?,
            times: step.optional("times")?,
        })
    }
}

// === impl Cli ===

impl Cli {
    fn of(step: &Object<'_>) -> Result<Self, FormatError> {
        let args: Vec<String> = step.required("args")?;
        let verb = args.first().cloned().unwrap_or_default();
        one_of(&verb.into(), &step.place_of("args"), "verb", &VERBS)?;
        let cli = Self { args, background: step.optional("bg")?, check: Check::of(step)? };
        if cli.background.is_some() && cli.check != Check::default() {
            return Err(FormatError::new(
                step.place(),
                "the checks of a verb in the background belong to its collect step",
            ));
        }
        Ok(cli)
    }
}

// === impl Collect ===

impl Collect {
    fn of(step: &Object<'_>) -> Result<Self, FormatError> {
        let timeout: Option<Seconds> = step.optional("timeout")?;
        Ok(Self {
            name: step.required("name")?,
            timeout: timeout.map(|timeout| timeout.0),
            check: Check::of(step)?,
        })
    }
}

// === impl Check ===

impl Check {
    fn of(step: &Object<'_>) -> Result<Self, FormatError> {
        Ok(Self { has: step.or_default("has")?, lacks: step.or_default("lacks")?, rc: step.optional("rc")? })
    }
}
