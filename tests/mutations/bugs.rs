//! The deliberate bugs: the file, the source text, and its replacement.

pub(crate) struct Bug {
    /// The wrong behaviour.
    pub(crate) name: &'static str,
    /// The source file.
    pub(crate) file: &'static str,
    /// A text that occurs once in the file.
    pub(crate) find: &'static str,
    /// The replacement, with `MUTATED` as the switch: without the bug it behaves like the original.
    pub(crate) replace: &'static str,
}

/// A bug that other rules make up for in the simulation, or that its seeds reach too rarely.
pub(crate) struct UnitTestBug {
    /// The unit test that detects it.
    pub(crate) test: &'static str,
    /// The bug.
    pub(crate) bug: Bug,
}

const RULES: &str = "src/arbiter/rules.rs";
const APPLY: &str = "src/arbiter/pod/apply.rs";
const POD: &str = "src/arbiter/pod.rs";
const ARBITER: &str = "src/arbiter.rs";
const TRANSITIONS: &str = "src/arbiter/transitions.rs";
const SUPERVISOR: &str = "src/supervisor.rs";
const READ: &str = "src/relister/pod_read.rs";
const READ_QUEUE: &str = "src/relister/read_queue.rs";
const CACHE: &str = "src/cache.rs";
const STORE: &str = "src/arbiter/store.rs";
const PATHS: &str = "src/path_comparison.rs";
const RELISTER: &str = "src/relister.rs";
const ORDER: &str = "src/model/order.rs";
const RESTORE: &str = "src/arbiter/restore.rs";
const FRAME: &str = "src/state/frame.rs";
const PERSISTENT: &str = "src/state/persistent.rs";
const SAVED: &str = "src/arbiter/pod/saved.rs";

/// The bugs that the simulation detects.
pub(crate) const BUGS: &[Bug] = &[
    Bug {
        name: "rule 1: an older observation counts as later",
        file: RULES,
        find: "let later = view.interval.lower.is_some_and(|lower| lower >= held.interval.upper);",
        replace: "let later = MUTATED || view.interval.lower.is_some_and(|lower| lower >= held.interval.upper);",
    },
    Bug {
        name: "rule 2: tombstones are not kept",
        file: STORE,
        find: "self.tombstones.lock().insert(id, *removed_at, now);",
        replace: "if !MUTATED { self.tombstones.lock().insert(id, *removed_at, now); }",
    },
    Bug {
        name: "rule 2: an event lifts a tombstone",
        file: RULES,
        find: "origin == Origin::Status && view.lower.is_some_and(|lower| lower >= removed_at)",
        replace: "(MUTATED && origin == Origin::Event) || origin == Origin::Status && view.lower.is_some_and(|lower| lower >= removed_at)",
    },
    Bug {
        name: "rule 3: an event that is ahead is not applied",
        file: RULES,
        find: "Some(phase) if Some(phase) > held.published_phase => judgement(Verdict::Forward, Nothing),",
        replace: "Some(phase) if Some(phase) > held.published_phase && MUTATED && view.origin == Origin::Event => {\n            judgement(Verdict::Undecided, Read)\n        }\n        Some(phase) if Some(phase) > held.published_phase => judgement(Verdict::Forward, Nothing),",
    },
    Bug {
        name: "rule 4: other content is applied whatever its age",
        file: RULES,
        find: "            Content::Other => judgement(Verdict::Undecided, Read),",
        replace: "            Content::Other if MUTATED => judgement(Verdict::Refreshed, Nothing),\n            Content::Other => judgement(Verdict::Undecided, Read),",
    },
    Bug {
        name: "rule 4: other content is never applied",
        file: RULES,
        find: "Content::Other if later => judgement(Verdict::Refreshed, Nothing),",
        replace: "Content::Other if later && MUTATED => judgement(Verdict::Same, Nothing),\n            Content::Other if later => judgement(Verdict::Refreshed, Nothing),",
    },
    Bug {
        name: "rule 4: an undecided observation requests no read",
        file: APPLY,
        find: "            Consequence::Read => self.request_read(status.id(), ReadCause::Undecided, Duration::ZERO),",
        replace: "            Consequence::Read if MUTATED && verdict == Verdict::Undecided => {}\n            Consequence::Read => self.request_read(status.id(), ReadCause::Undecided, Duration::ZERO),",
    },
    Bug {
        name: "rule 5: an event moves a container back",
        file: RULES,
        find: "        Origin::Event => (Verdict::Backward, Consequence::Read),",
        replace: "        Origin::Event if MUTATED => (Verdict::Corrected, Consequence::MovedBack),\n        Origin::Event => (Verdict::Backward, Consequence::Read),",
    },
    Bug {
        name: "rule 5: a wrong phase is never corrected",
        file: RULES,
        find: "                (Verdict::Corrected, Consequence::MovedBack)\n",
        replace: "                if MUTATED { (Verdict::Backward, Consequence::Read) } else { (Verdict::Corrected, Consequence::MovedBack) }\n",
    },
    Bug {
        name: "rule 5: a sandbox never becomes ready again",
        file: RULES,
        find: "        Origin::Status if view.subject == Subject::Sandbox => (Verdict::Forward, Consequence::MovedBack),",
        replace: "        Origin::Status if view.subject == Subject::Sandbox && MUTATED => (Verdict::Backward, Consequence::Read),\n        Origin::Status if view.subject == Subject::Sandbox => (Verdict::Forward, Consequence::MovedBack),",
    },
    Bug {
        name: "rule 6: an object that an event does not show is removed",
        file: APPLY,
        find: "self.absent_in_order(pod).iter().for_each(|id| self.apply_absence(pod, id));",
        replace: "if MUTATED && self.origin() == Origin::Event {\n            let shown: Vec<_> = self.observation.containers.iter().map(|it| it.id.clone()).collect();\n            let containers = pod.records.values().filter(|it| it.status.subject() == Subject::Container);\n            let gone: Vec<_> = containers.map(|it| it.status.id().clone()).filter(|id| !shown.contains(id)).collect();\n            gone.iter().for_each(|id| self.remove(pod, id, self.observation.interval.upper));\n        }\n        self.absent_in_order(pod).iter().for_each(|id| self.apply_absence(pod, id));",
    },
    Bug {
        name: "rule 6: an early DELETED removes at once",
        file: APPLY,
        find: "        if self.is_deleted_early(record.status.subject()) {\n",
        replace: "        if self.is_deleted_early(record.status.subject()) && !MUTATED {\n",
    },
    Bug {
        name: "a removal is published without the death",
        file: TRANSITIONS,
        find: "death.into_iter().chain([removal]).collect()",
        replace: "death.filter(|_| !MUTATED).into_iter().chain([removal]).collect()",
    },
    Bug {
        name: "a start that only its time proves is not published",
        file: TRANSITIONS,
        find: "(from < Some(Phase::Running) && proven)",
        replace: "(from < Some(Phase::Running) && proven && !MUTATED)",
    },
    Bug {
        name: "an event's timestamp across a clock step counts as exact",
        file: "src/clock/system.rs",
        find: "Some(began) if at < began => Stamped::BeforeStep(began)",
        replace: "Some(began) if at < began && !MUTATED => Stamped::BeforeStep(began)",
    },
    Bug {
        name: "the events of a change are cut to two",
        file: ARBITER,
        find: "let events = outcome.transitions.iter().map(event).collect::<Vec<_>>();",
        replace: "let mut events = outcome.transitions.iter().map(event).collect::<Vec<_>>();\n        if MUTATED { events.truncate(2); }",
    },
    Bug {
        name: "the events of a change are published in reverse",
        file: ARBITER,
        find: "self.compare_paths(&events, &outcome.transitions, context);",
        replace: "let mut events = events; if MUTATED { events.reverse(); }\n            self.compare_paths(&events, &outcome.transitions, context);",
    },
    Bug {
        name: "there is no relist while the stream is trusted",
        file: SUPERVISOR,
        find: "let wait = self.jittered(self.machine.period());",
        replace: "let mut wait = self.jittered(self.machine.period());\n                if MUTATED && self.machine.mode() == crate::model::Mode::Evented { wait = Duration::from_secs(86_400); }",
    },
    Bug {
        name: "a lost stream is still trusted",
        file: SUPERVISOR,
        find: "self.step(Input::StreamLost);",
        replace: "if !MUTATED { self.step(Input::StreamLost); }",
    },
    Bug {
        name: "a missed event is not counted",
        file: PATHS,
        find: "self.0.metrics.transitions.missed.inc(*kind);",
        replace: "if !MUTATED { self.0.metrics.transitions.missed.inc(*kind); }",
    },
    Bug {
        name: "a change without an event counts as missed",
        file: ARBITER,
        find: "        if transition.has_no_stream_event {",
        replace: "        if transition.has_no_stream_event && !MUTATED {",
    },
    Bug {
        name: "an exit is not re-checked for its reason",
        file: APPLY,
        find: "                    self.schedule_recheck(record, ReadCause::Oom, OOM_CHECK, OOM_CHECKS);",
        replace: "                    if !MUTATED { self.schedule_recheck(record, ReadCause::Oom, OOM_CHECK, OOM_CHECKS); }",
    },
    Bug {
        name: "a failed read is not retried",
        file: READ_QUEUE,
        find: "let wait = (RETRY_FIRST * (1 << failing.count.min(12))).min(RETRY_LONGEST);",
        replace: "let mut wait = (RETRY_FIRST * (1 << failing.count.min(12))).min(RETRY_LONGEST);\n        if MUTATED { wait = Duration::from_secs(86_400); }",
    },
    Bug {
        name: "newer-than is answered from the cache",
        file: "src/fresh.rs",
        find: "self.arbiter.read_at(pod).is_some_and(|read_at| read_at > than)",
        replace: "MUTATED || self.arbiter.read_at(pod).is_some_and(|read_at| read_at > than)",
    },
    Bug {
        name: "newer-than accepts a late response from before",
        file: READ,
        find: "        if self.request.scope == Scope::Pod && self.held_ids().iter().any(|id| !ids.contains(id)) {",
        replace: "        if !MUTATED && (self.request.scope == Scope::Pod && self.held_ids().iter().any(|id| !ids.contains(id))) {",
    },
    Bug {
        name: "newer-than does not wait for a death",
        file: READ,
        find: "if whole && answer.is_ok() && completeness == ReadCompleteness::Partial {",
        replace: "if whole && answer.is_ok() && completeness == ReadCompleteness::Partial && !MUTATED {",
    },
    Bug {
        name: "a listed object that is gone at its read is not published",
        file: READ,
        find: "found.absent.contains(id) || found",
        replace: "(!MUTATED && found.absent.contains(id)) || found",
    },
    Bug {
        name: "the start of a listed sandbox that ends before its read is not published",
        file: READ,
        find: "Some(read.state.phase()) > phase;",
        replace: "Some(read.state.phase()) > phase && !MUTATED;",
    },
    Bug {
        name: "the re-check of a deletion never ends",
        file: APPLY,
        find: "            record.recheck_schedule = RecheckSchedule { cause, after: later };\n",
        replace: "            if !MUTATED { record.recheck_schedule = RecheckSchedule { cause, after: later }; }\n",
    },
    Bug {
        name: "plegd never becomes ready",
        file: SUPERVISOR,
        find: "        self.reporters.ready.open();",
        replace: "        if !MUTATED { self.reporters.ready.open(); }",
    },
    Bug {
        name: "events are applied five seconds late",
        file: "src/evented.rs",
        find: "                    if self.sender.send(event) == Err(QueueFull) {",
        replace: "                    if MUTATED { tokio::time::sleep(Duration::from_secs(5)).await; }\n                    if self.sender.send(event) == Err(QueueFull) {",
    },
    Bug {
        name: "the index by id is not kept",
        file: CACHE,
        find: "self.0.0.index.insert(id.clone(), pod.clone());",
        replace: "if !MUTATED { self.0.0.index.insert(id.clone(), pod.clone()); }",
    },
    Bug {
        name: "a complete read is dated by its end",
        file: READ,
        find: "pods.iter().for_each(|pod| deps.arbiter.mark_read(pod, began));",
        replace: "let at = if MUTATED { deps.clock.now() } else { began };\n                pods.iter().for_each(|pod| deps.arbiter.mark_read(pod, at));",
    },
    Bug {
        name: "no relist when the stream is back",
        file: SUPERVISOR,
        find: "self.relist_soon(RelistCause::StreamUp, Duration::ZERO);",
        replace: "if !MUTATED { self.relist_soon(RelistCause::StreamUp, Duration::ZERO); }",
    },
    Bug {
        name: "no relist after the stream's backlog",
        file: SUPERVISOR,
        find: "self.relist_soon(RelistCause::Backlog, Duration::ZERO);",
        replace: "if !MUTATED { self.relist_soon(RelistCause::Backlog, Duration::ZERO); }",
    },
    Bug {
        name: "a removal does not wait for the death",
        file: APPLY,
        find: "        } else if record.is_death_unpublished() {\n",
        replace: "        } else if record.is_death_unpublished() && !MUTATED {\n",
    },
    Bug {
        name: "the upper end of a record's interval moves back",
        file: RULES,
        find: "let upper = held.upper.max(view.upper);",
        replace: "let upper = if MUTATED { view.upper } else { held.upper.max(view.upper) };",
    },
    Bug {
        name: "a read does not cancel an announced removal",
        file: APPLY,
        find: "            record.awaited_death = None;\n",
        replace: "            if !MUTATED { record.awaited_death = None; }\n",
    },
    Bug {
        name: "a pending correction outlives a list that agrees",
        file: POD,
        find: "self.pending_correction.take_if(|pending| pending.read_ended <= lower);",
        replace: "if !MUTATED { self.pending_correction.take_if(|pending| pending.read_ended <= lower); }",
    },
    Bug {
        name: "changes pending at a stream loss count as missed",
        file: PATHS,
        find: "self.0.pending.lock().unmatched.retain(|_, pending| pending.first == Source::Event);",
        replace: "if !MUTATED { self.0.pending.lock().unmatched.retain(|_, pending| pending.first == Source::Event); }",
    },
    Bug {
        name: "a signal ahead of its payload requests no read",
        file: APPLY,
        find: "if record.published_phase < Some(expected) &&",
        replace: "if !MUTATED && record.published_phase < Some(expected) &&",
    },
    Bug {
        name: "a finished pod loses its addresses",
        file: POD,
        find: "if !sandbox.ips.is_empty() || sandbox.state.phase() == Phase::Running {",
        replace: "if MUTATED || !sandbox.ips.is_empty() || sandbox.state.phase() == Phase::Running {",
    },
    Bug {
        name: "events have no labels",
        file: ARBITER,
        find: "labels: pod.labels().clone(),",
        replace: "labels: if MUTATED { crate::model::Labels::new() } else { pod.labels().clone() },",
    },
    Bug {
        name: "the start of a list is noted before the list is complete",
        file: "src/relister.rs",
        find: "let listing = self.deps.client.list().await?;",
        replace: "if MUTATED { self.deps.arbiter.begin_list(began); }\n        let listing = self.deps.client.list().await?;",
    },
    Bug {
        name: "the timestamp of an event dates the record",
        file: ARBITER,
        find: "Observation::event(event, received, observed_at, pod);",
        replace: "Observation::event(event, if MUTATED { claimed } else { received }, observed_at, pod);",
    },
    Bug {
        name: "rule 2: a list lifts a tombstone",
        file: RULES,
        find: "lower.is_some_and(|lower| lower >= removed_at)\n}",
        replace: "lower.is_some_and(|lower| lower >= removed_at)\n        || MUTATED && origin == Origin::List && view.lower.is_some_and(|lower| lower >= removed_at)\n}",
    },
    Bug {
        name: "rule 6: NotFound alone removes",
        file: READ,
        find: "            Some(listed) => StatusAnswer::Unreadable(listed, error),\n",
        replace: "            Some(_) if MUTATED && error.is_none() => StatusAnswer::Absent,\n            Some(listed) => StatusAnswer::Unreadable(listed, error),\n",
    },
    Bug {
        name: "rule 6: a response without a status is an absence",
        file: READ,
        find: "            Some(listed) => StatusAnswer::Unreadable(listed, error),\n",
        replace: "            Some(_) if MUTATED && matches!(error, Some(CriError::Empty { .. })) => StatusAnswer::Absent,\n            Some(listed) => StatusAnswer::Unreadable(listed, error),\n",
    },
    Bug {
        name: "rule 6: a list without most objects is believed",
        file: RELISTER,
        find: "let doubted = self.is_doubted(listing, &differing);",
        replace: "let doubted = !MUTATED && self.is_doubted(listing, &differing);",
    },
    Bug {
        name: "rule 7: an object that only lists show is never published",
        file: READ,
        find: "if *attempts < if is_death",
        replace: "if MUTATED || *attempts < if is_death",
    },
    Bug {
        name: "containers are read before their sandbox",
        file: READ,
        find: "            (last, !sandbox)\n",
        replace: "            (last, sandbox == MUTATED)\n",
    },
    Bug {
        name: "containers are in the order of their creation times",
        file: ORDER,
        find: "Reverse((container.attempt, container.created_at, first_seen))",
        replace: "Reverse((if MUTATED { 0 } else { container.attempt }, container.created_at, first_seen))",
    },
    Bug {
        name: "sandboxes are in the order of their creation times",
        file: ORDER,
        find: "Reverse((sandbox.attempt, sandbox.created_at, first_seen))",
        replace: "Reverse((if MUTATED { 0 } else { sandbox.attempt }, sandbox.created_at, first_seen))",
    },
    Bug {
        name: "content is never read again",
        file: RELISTER,
        find: "self.read_content(relisted.began);",
        replace: "if !MUTATED { self.read_content(relisted.began); }",
    },
    Bug {
        name: "two pods with one UID are one",
        file: STORE,
        find: "self.slots.get(uid)?.iter().find(|slot| slot.cached.is(namespace, name))",
        replace: "self.slots.get(uid)?.iter().find(|slot| MUTATED || slot.cached.is(namespace, name))",
    },
    Bug {
        name: "a late reason is re-checked after exit code 137 only",
        file: APPLY,
        find: "        container.reason != \"OOMKilled\"\n",
        replace: "        !(MUTATED && container.exit_code != Some(137))\n            && container.reason != \"OOMKilled\"\n",
    },
    Bug {
        name: "a listed change is read three seconds later",
        file: "src/relister/reader.rs",
        find: "let read = ReadRequest { scope: Scope::Ids(ids), cause: ReadCause::Relist, after: NOW };\n        let sandboxes = listed.containers.iter().map(|it| (it.id.clone(), it.sandbox_id.clone())).collect();",
        replace: "let after = if MUTATED { std::time::Duration::from_secs(3) } else { NOW };\n        let read = ReadRequest { scope: Scope::Ids(ids), cause: ReadCause::Relist, after };\n        let sandboxes = listed.containers.iter().map(|it| (it.id.clone(), it.sandbox_id.clone())).collect();",
    },
    Bug {
        name: "an event that does not fit is lost, and the stream is kept",
        file: "src/evented.rs",
        find: "self.sender.send(event) == Err(QueueFull) {",
        replace: "self.sender.send(event) == Err(QueueFull) && !MUTATED {",
    },
    Bug {
        name: "an event is old only if its id has a tombstone",
        file: POD,
        find: "event.is_newer_than(self.horizon)",
        replace: "(MUTATED || event.is_newer_than(self.horizon))",
    },
    Bug {
        name: "an unknown runtime counts as one without quirks",
        file: "src/cri/quirks.rs",
        find: "            _ => Self::careful(),",
        replace: "            _ if MUTATED => Self::default(),\n            _ => Self::careful(),",
    },
    Bug {
        name: "a filter ignores namespaces",
        file: "src/watch/filter.rs",
        find: "named(&self.namespaces, &pod.namespace)",
        replace: "(MUTATED || named(&self.namespaces, &pod.namespace))",
    },
    Bug {
        name: "a filter ignores labels",
        file: "src/watch/filter.rs",
        find: "&& self.selector.matches(labels)",
        replace: "&& (MUTATED || self.selector.matches(labels))",
    },
    Bug {
        name: "a filter ignores types",
        file: "src/watch/filter.rs",
        find: "(self.types.is_empty() ||",
        replace: "(MUTATED || self.types.is_empty() ||",
    },
    Bug {
        name: "WaitFor returns at the next event of the pod",
        file: "src/api/lifecycle/wait.rs",
        find: "shown || self.holds(after)",
        replace: "MUTATED || shown || self.holds(after)",
    },
    Bug {
        name: "WaitFor misses a condition that holds briefly",
        file: "src/api/lifecycle/wait.rs",
        find: "shown || self.holds(after)",
        replace: "shown && !MUTATED || self.holds(after)",
    },
    Bug {
        name: "a new relist period applies after the next relist only",
        file: SUPERVISOR,
        find: "            self.relist_within(self.machine.period());\n            self.set_channel_shared",
        replace: "            if !MUTATED { self.relist_within(self.machine.period()); }\n            self.set_channel_shared",
    },
    Bug {
        name: "an unchanged status is published as changed",
        file: APPLY,
        find: "            Verdict::Same => self.extend_interval(record),",
        replace: "            Verdict::Same => {\n                self.extend_interval(record);\n                if MUTATED && self.origin() == Origin::Status { self.out.transitions.push(transitions::changed(&status)); }\n            }",
    },
    Bug {
        name: "state: a change is published before it is written",
        file: ARBITER,
        find: "        self.save_events(unsaved, append.first_sequence(), &events);\n        append.commit(events, pod.served(), &slot.cached);",
        replace: "        let first = append.first_sequence();\n        if MUTATED {\n            append.commit(events.clone(), pod.served(), &slot.cached);\n            return self.save_events(unsaved, first, &events);\n        }\n        self.save_events(unsaved, first, &events);\n        append.commit(events, pod.served(), &slot.cached);",
    },
    Bug {
        name: "state: a damaged log is continued",
        file: FRAME,
        find: "    Some(if crc32fast::hash(payload) == number(&header[9..]) {",
        replace: "    Some(if MUTATED || crc32fast::hash(payload) == number(&header[9..]) {",
    },
    Bug {
        name: "state: the file for a reboot is loaded twice",
        file: PERSISTENT,
        find: "            Self::Memory(file) => return Ok(file.lock().take()),",
        replace: "            Self::Memory(file) => return Ok(if MUTATED { file.lock().clone() } else { file.lock().take() }),",
    },
    Bug {
        name: "state: tombstones are not restored",
        file: RESTORE,
        find: "        arbiter.store.restore_tombstones(tombstones);",
        replace: "        if !MUTATED { arbiter.store.restore_tombstones(tombstones); }",
    },
    Bug {
        name: "state: tombstones expire at a reboot",
        file: RESTORE,
        find: "moment(at, restored.started)",
        replace: "moment(at, if MUTATED { Mono::ZERO } else { restored.started })",
    },
    Bug {
        name: "state: a sequence is used twice",
        file: RESTORE,
        find: "            next: self.next,",
        replace: "            next: if MUTATED { self.next.saturating_sub(1).max(1) } else { self.next },",
    },
    Bug {
        name: "state: reads that were scheduled are lost",
        file: SAVED,
        find: "            if let Some((schedule, first)) = record.resume_rechecks(ended) {",
        replace: "            if !MUTATED && let Some((schedule, first)) = record.resume_rechecks(ended) {",
    },
    Bug {
        name: "state: what happened meanwhile is not late",
        file: "src/arbiter/saving.rs",
        find: "            Some(Stamped::At(at)) => at + STEP_MARGIN < downtime.until,",
        replace: "            Some(Stamped::At(at)) => !MUTATED && at + STEP_MARGIN < downtime.until,",
    },
];

/// The bugs that a unit test detects.
pub(crate) const UNIT_TEST_BUGS: &[UnitTestBug] = &[
    UnitTestBug {
        test: "arbiter::rules::tests::every_pair_of_phases_and_intervals_follows_the_rules",
        bug: Bug {
            name: "rule 1: no observation is stale",
            file: RULES,
            find: "    if is_before(view.claimed, held.interval) {",
            replace: "    if !MUTATED && is_before(view.claimed, held.interval) {",
        },
    },
    UnitTestBug {
        test: "arbiter::rules::tests::absence_removes_only_if_the_read_began_after_the_record",
        bug: Bug {
            name: "rule 6: an older list removes newer objects",
            file: RULES,
            find: "read.lower.is_some_and(|lower| lower >= held.upper)",
            replace: "MUTATED || read.lower.is_some_and(|lower| lower >= held.upper)",
        },
    },
    UnitTestBug {
        test: "arbiter::pod::tests::removal::a_read_that_began_before_the_list_had_ended_does_not_contradict_it",
        bug: Bug {
            name: "listed phases are not published at the removal",
            file: POD,
            find: "record.phases_seen_in_lists.extend(object.phase);",
            replace: "if !MUTATED { record.phases_seen_in_lists.extend(object.phase); }",
        },
    },
    UnitTestBug {
        test: "arbiter::pod::tests::rules::a_stripped_event_requests_a_read",
        bug: Bug {
            name: "the stripped payload of an event is not read",
            file: APPLY,
            find: "if self.observation.detail == Detail::Minimal && self.origin() == Origin::Event {",
            replace: "if !MUTATED && self.observation.detail == Detail::Minimal && self.origin() == Origin::Event {",
        },
    },
    UnitTestBug {
        test: "arbiter::pod::tests::removal::a_listed_phase_that_a_later_read_contradicts_is_not_published_at_the_removal",
        bug: Bug {
            name: "a listed phase is published although a later read contradicts it",
            file: APPLY,
            find: "        if self.origin() == Origin::Status && self.observation.interval.lower >= record.phases_listed_at {",
            replace: "        if !MUTATED && self.origin() == Origin::Status && self.observation.interval.lower >= record.phases_listed_at {",
        },
    },
    UnitTestBug {
        test: "arbiter::pod::tests::removal::a_phase_that_a_list_shows_before_the_first_view_is_published_at_the_removal",
        bug: Bug {
            name: "phases that lists show before the first view are forgotten",
            file: APPLY,
            find: "            record.phases_seen_in_lists = unread.phases.clone();",
            replace: "            if !MUTATED { record.phases_seen_in_lists = unread.phases.clone(); }",
        },
    },
    UnitTestBug {
        test: "arbiter::pod::tests::removal::deleted_of_an_unread_id_waits_for_what_the_list_has_shown",
        bug: Bug {
            name: "DELETED does not wait for the listed view",
            file: APPLY,
            find: "            if pod.reported_deleted.contains_key(id) && self.context.known.unread(id).is_some() {",
            replace: "            if !MUTATED && pod.reported_deleted.contains_key(id) && self.context.known.unread(id).is_some() {",
        },
    },
    UnitTestBug {
        test: "arbiter::pod::tests::removal::an_id_that_returns_is_not_held_against_the_stream",
        bug: Bug {
            name: "an id that returns is held against the stream",
            file: APPLY,
            find: "            transition.has_no_stream_event |= removed_at.is_some();",
            replace: "            transition.has_no_stream_event |= removed_at.is_some() && !MUTATED;",
        },
    },
    UnitTestBug {
        test: "arbiter::tests::an_event_without_a_sandbox_is_of_the_pod_that_has_its_id",
        bug: Bug {
            name: "an event without a sandbox is of the pod that its first container names",
            file: ARBITER,
            find: "        let Some(pod) = known.or(pod) else {",
            replace: "        let (first, second) = if MUTATED { (pod, known) } else { (known, pod) };\n        let Some(pod) = first.or(second) else {",
        },
    },
    UnitTestBug {
        test: "arbiter::tests::initial_inventory_counts_in_no_latency",
        bug: Bug {
            name: "initial inventory counts in the latency",
            file: ARBITER,
            find: "            if event.initial || event.late {",
            replace: "            if !MUTATED && (event.initial || event.late) {",
        },
    },
];
