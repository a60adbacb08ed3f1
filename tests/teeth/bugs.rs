//! The deliberate bugs: where, what is there, and what is put in its place.

/// A bug.
pub(crate) struct Bug {
    /// What it does wrong.
    pub(crate) name: &'static str,
    /// In which file.
    pub(crate) file: &'static str,
    /// Text that is there once.
    pub(crate) find: &'static str,
    /// What comes in its place, with `BITES` for the switch: without the bug it does the same as what was there.
    pub(crate) replace: &'static str,
}

const RULES: &str = "src/arbiter/rules.rs";
const APPLY: &str = "src/arbiter/pod/apply.rs";
const POD: &str = "src/arbiter/pod.rs";
const ARBITER: &str = "src/arbiter.rs";
const TRANSITIONS: &str = "src/arbiter/transitions.rs";
const SUPERVISOR: &str = "src/supervisor.rs";
const READ: &str = "src/relister/read.rs";
const AGENDA: &str = "src/relister/agenda.rs";
const CACHE: &str = "src/cache.rs";
const STORE: &str = "src/arbiter/store.rs";
const PATHS: &str = "src/path_comparison.rs";
const RELISTER: &str = "src/relister.rs";
const ORDER: &str = "src/model/order.rs";

/// All of them.
pub(crate) const BUGS: &[Bug] = &[
    Bug {
        name: "rule 1: nothing is too old",
        file: RULES,
        find: "    if is_before(view.claimed, held.interval) {",
        replace: "    if !BITES && is_before(view.claimed, held.interval) {",
    },
    Bug {
        name: "rule 1: what is older than what is held counts as later",
        file: RULES,
        find: "let later = view.interval.lower.is_some_and(|lower| lower >= held.interval.upper);",
        replace: "let later = BITES || view.interval.lower.is_some_and(|lower| lower >= held.interval.upper);",
    },
    Bug {
        name: "rule 2: tombstones are forgotten",
        file: STORE,
        find: "self.tombstones.lock().insert(id, *removed_at, now);",
        replace: "if !BITES { self.tombstones.lock().insert(id, *removed_at, now); }",
    },
    Bug {
        name: "rule 2: an event lifts a tombstone",
        file: RULES,
        find: "origin == Origin::Status && view.lower.is_some_and(|lower| lower >= removed_at)",
        replace: "(BITES && origin == Origin::Event) || origin == Origin::Status && view.lower.is_some_and(|lower| lower >= removed_at)",
    },
    Bug {
        name: "rule 3: an event that is ahead is not taken",
        file: RULES,
        find: "Some(phase) if Some(phase) > held.published_phase => judgement(Verdict::Forward, Nothing),",
        replace: "Some(phase) if Some(phase) > held.published_phase && BITES && view.origin == Origin::Event => {\n            judgement(Verdict::Undecided, Read)\n        }\n        Some(phase) if Some(phase) > held.published_phase => judgement(Verdict::Forward, Nothing),",
    },
    Bug {
        name: "rule 4: other content is taken whatever its age",
        file: RULES,
        find: "            Content::Other => judgement(Verdict::Undecided, Read),",
        replace: "            Content::Other if BITES => judgement(Verdict::Refreshed, Nothing),\n            Content::Other => judgement(Verdict::Undecided, Read),",
    },
    Bug {
        name: "rule 4: other content is never taken",
        file: RULES,
        find: "Content::Other if later => judgement(Verdict::Refreshed, Nothing),",
        replace: "Content::Other if later && BITES => judgement(Verdict::Same, Nothing),\n            Content::Other if later => judgement(Verdict::Refreshed, Nothing),",
    },
    Bug {
        name: "rule 4: what cannot be decided is not read",
        file: APPLY,
        find: "            Consequence::Read => self.request_read(status.id(), ReadCause::Undecided, Duration::ZERO),",
        replace: "            Consequence::Read if BITES && verdict == Verdict::Undecided => {}\n            Consequence::Read => self.request_read(status.id(), ReadCause::Undecided, Duration::ZERO),",
    },
    Bug {
        name: "rule 5: an event moves a container back",
        file: RULES,
        find: "        Origin::Event => (Verdict::Backward, Consequence::Read),",
        replace: "        Origin::Event if BITES => (Verdict::Corrected, Consequence::MovedBack),\n        Origin::Event => (Verdict::Backward, Consequence::Read),",
    },
    Bug {
        name: "rule 5: what was told wrong is never corrected",
        file: RULES,
        find: "                (Verdict::Corrected, Consequence::MovedBack)\n",
        replace: "                if BITES { (Verdict::Backward, Consequence::Read) } else { (Verdict::Corrected, Consequence::MovedBack) }\n",
    },
    Bug {
        name: "rule 5: a sandbox never becomes ready again",
        file: RULES,
        find: "        Origin::Status if view.subject == Subject::Sandbox => (Verdict::Forward, Consequence::MovedBack),",
        replace: "        Origin::Status if view.subject == Subject::Sandbox && BITES => (Verdict::Backward, Consequence::Read),\n        Origin::Status if view.subject == Subject::Sandbox => (Verdict::Forward, Consequence::MovedBack),",
    },
    Bug {
        name: "rule 6: an older list removes what came since",
        file: RULES,
        find: "read.lower.is_some_and(|lower| lower >= held.upper)",
        replace: "BITES || read.lower.is_some_and(|lower| lower >= held.upper)",
    },
    Bug {
        name: "rule 6: what an event does not show is removed",
        file: APPLY,
        find: "self.absent_in_order(pod).iter().for_each(|id| self.apply_absence(pod, id));",
        replace: "if BITES && self.origin() == Origin::Event {\n            let shown: Vec<_> = self.observation.containers.iter().map(|it| it.id.clone()).collect();\n            let containers = pod.records.values().filter(|it| it.status.subject() == Subject::Container);\n            let gone: Vec<_> = containers.map(|it| it.status.id().clone()).filter(|id| !shown.contains(id)).collect();\n            gone.iter().for_each(|id| self.remove(pod, id, self.observation.interval.upper));\n        }\n        self.absent_in_order(pod).iter().for_each(|id| self.apply_absence(pod, id));",
    },
    Bug {
        name: "rule 6: an early DELETED is taken at its word",
        file: APPLY,
        find: "        if self.is_deleted_early(record.status.subject()) {\n",
        replace: "        if self.is_deleted_early(record.status.subject()) && !BITES {\n",
    },
    Bug {
        name: "a removal is told without the death",
        file: TRANSITIONS,
        find: "death.into_iter().chain([removal]).collect()",
        replace: "death.filter(|_| !BITES).into_iter().chain([removal]).collect()",
    },
    Bug {
        name: "a start that only its time proves is not told",
        file: TRANSITIONS,
        find: "(from < Some(Phase::Running) && proven)",
        replace: "(from < Some(Phase::Running) && proven && !BITES)",
    },
    Bug {
        name: "an event's stamp across a clock step counts as exact",
        file: "src/clock.rs",
        find: "Some(began) if at < began => Stamped::BeforeStep(began)",
        replace: "Some(began) if at < began && !BITES => Stamped::BeforeStep(began)",
    },
    Bug {
        name: "what is told at once is cut to two events",
        file: ARBITER,
        find: "self.journal.append(events, pod.served(), &slot.cached);",
        replace: "let mut events = events; if BITES { events.truncate(2); }\n            self.journal.append(events, pod.served(), &slot.cached);",
    },
    Bug {
        name: "what is told at once is told in reverse",
        file: ARBITER,
        find: "self.compare_paths(&events, &outcome.transitions, context);",
        replace: "let mut events = events; if BITES { events.reverse(); }\n            self.compare_paths(&events, &outcome.transitions, context);",
    },
    Bug {
        name: "a trusted stream needs no relist any more",
        file: SUPERVISOR,
        find: "let wait = self.jittered(self.machine.period());",
        replace: "let mut wait = self.jittered(self.machine.period());\n                if BITES && self.machine.mode() == Mode::Evented { wait = Duration::from_secs(86_400); }",
    },
    Bug {
        name: "a lost stream is still trusted",
        file: SUPERVISOR,
        find: "self.step(Input::StreamLost);",
        replace: "if !BITES { self.step(Input::StreamLost); }",
    },
    Bug {
        name: "a miss is not counted",
        file: PATHS,
        find: "self.0.metrics.transitions.missed.inc(*kind);",
        replace: "if !BITES { self.0.metrics.transitions.missed.inc(*kind); }",
    },
    Bug {
        name: "the stream is blamed for what no event tells",
        file: ARBITER,
        find: "        if transition.has_no_stream_event {",
        replace: "        if transition.has_no_stream_event && !BITES {",
    },
    Bug {
        name: "an exit is not looked at again for its reason",
        file: APPLY,
        find: "                    self.schedule_recheck(record, ReadCause::Oom, OOM_CHECK, OOM_CHECKS);",
        replace: "                    if !BITES { self.schedule_recheck(record, ReadCause::Oom, OOM_CHECK, OOM_CHECKS); }",
    },
    Bug {
        name: "a read that failed is not tried again",
        file: AGENDA,
        find: "let wait = (RETRY_FIRST * (1 << failures.count.min(12))).min(RETRY_LONGEST);",
        replace: "let mut wait = (RETRY_FIRST * (1 << failures.count.min(12))).min(RETRY_LONGEST);\n        if BITES { wait = Duration::from_secs(86_400); }",
    },
    Bug {
        name: "newer-than is answered from the cache",
        file: "src/fresh.rs",
        find: "self.arbiter.read_at(pod).is_some_and(|read_at| read_at > than)",
        replace: "BITES || self.arbiter.read_at(pod).is_some_and(|read_at| read_at > than)",
    },
    Bug {
        name: "newer-than believes what came late from before",
        file: READ,
        find: "if meanwhile { Settled::Partly } else { Settled::All }",
        replace: "if meanwhile && !BITES { Settled::Partly } else { Settled::All }",
    },
    Bug {
        name: "newer-than waits for nobody's death",
        file: READ,
        find: "        if whole && answer.is_ok() && settled == Settled::Partly {",
        replace: "        if whole && answer.is_ok() && settled == Settled::Partly && !BITES {",
    },
    Bug {
        name: "what a list showed is not told if it is gone when it is read",
        file: READ,
        find: "found.absent.contains(id) || found",
        replace: "(!BITES && found.absent.contains(id)) || found",
    },
    Bug {
        name: "a sandbox that a list showed ready is not told once it is not",
        file: READ,
        find: "Some(read.state.phase()) > phase;",
        replace: "Some(read.state.phase()) > phase && !BITES;",
    },
    Bug {
        name: "what lists showed last is forgotten at the removal",
        file: POD,
        find: "record.phases_seen_in_lists.extend(object.phase);",
        replace: "if !BITES { record.phases_seen_in_lists.extend(object.phase); }",
    },
    Bug {
        name: "a look for a deletion never comes to an end",
        file: APPLY,
        find: "            record.recheck_schedule = RecheckSchedule { cause, after: later };\n",
        replace: "            if !BITES { record.recheck_schedule = RecheckSchedule { cause, after: later }; }\n",
    },
    Bug {
        name: "readiness never comes",
        file: SUPERVISOR,
        find: "        self.signs.ready.open();",
        replace: "        if !BITES { self.signs.ready.open(); }",
    },
    Bug {
        name: "events wait for five seconds before they are taken",
        file: "src/evented.rs",
        find: "                    if self.sender.send(event) == Err(Full) {",
        replace: "                    if BITES { tokio::time::sleep(Duration::from_secs(5)).await; }\n                    if self.sender.send(event) == Err(Full) {",
    },
    Bug {
        name: "an entry is found no more by its id",
        file: CACHE,
        find: "self.0.0.index.insert(id.clone(), pod.clone());",
        replace: "if !BITES { self.0.0.index.insert(id.clone(), pod.clone()); }",
    },
    Bug {
        name: "a whole read is dated by its end",
        file: READ,
        find: "pods.iter().for_each(|pod| self.arbiter.mark_read(pod, began));",
        replace: "let at = if BITES { self.clock.now() } else { began };\n                pods.iter().for_each(|pod| self.arbiter.mark_read(pod, at));",
    },
    Bug {
        name: "no relist when the stream is back",
        file: SUPERVISOR,
        find: "self.relist_soon(RelistCause::StreamUp, Duration::ZERO);",
        replace: "if !BITES { self.relist_soon(RelistCause::StreamUp, Duration::ZERO); }",
    },
    Bug {
        name: "no relist after the stream's backlog",
        file: SUPERVISOR,
        find: "self.relist_soon(RelistCause::Backlog, Duration::ZERO);",
        replace: "if !BITES { self.relist_soon(RelistCause::Backlog, Duration::ZERO); }",
    },
    Bug {
        name: "a removal does not wait for the death",
        file: APPLY,
        find: "        } else if record.is_death_unpublished() {\n",
        replace: "        } else if record.is_death_unpublished() && !BITES {\n",
    },
    Bug {
        name: "the upper end of what is held goes back",
        file: RULES,
        find: "let upper = held.upper.max(view.upper);",
        replace: "let upper = if BITES { view.upper } else { held.upper.max(view.upper) };",
    },
    Bug {
        name: "a read does not cancel an announced removal",
        file: APPLY,
        find: "            record.awaited_death = None;\n",
        replace: "            if !BITES { record.awaited_death = None; }\n",
    },
    Bug {
        name: "a pending correction outlives a list that agrees",
        file: POD,
        find: "self.pending_correction.take_if(|pending| pending.read_ended <= lower);",
        replace: "if !BITES { self.pending_correction.take_if(|pending| pending.read_ended <= lower); }",
    },
    Bug {
        name: "a lost stream is blamed for what it had not reported yet",
        file: PATHS,
        find: "self.0.pending.lock().unmatched.retain(|_, pending| pending.first == Source::Event);",
        replace: "if !BITES { self.0.pending.lock().unmatched.retain(|_, pending| pending.first == Source::Event); }",
    },
    Bug {
        name: "a signal ahead of its payload requests no read",
        file: APPLY,
        find: "if record.published_phase < Some(expected) &&",
        replace: "if !BITES && record.published_phase < Some(expected) &&",
    },
    Bug {
        name: "a finished pod loses its addresses",
        file: POD,
        find: "if !sandbox.ips.is_empty() || sandbox.state.phase() == Phase::Running {",
        replace: "if BITES || !sandbox.ips.is_empty() || sandbox.state.phase() == Phase::Running {",
    },
    Bug {
        name: "events have no labels",
        file: ARBITER,
        find: "labels: pod.labels().clone(),",
        replace: "labels: if BITES { crate::model::Labels::new() } else { pod.labels().clone() },",
    },
    Bug {
        name: "the start of a list is noted before the list is complete",
        file: RELISTER,
        find: "let listing = self.client.list().await?;",
        replace: "if BITES { self.arbiter.list_begins(began); }\n        let listing = self.client.list().await?;",
    },
    Bug {
        name: "the timestamp of an event dates what is held",
        file: ARBITER,
        find: "Observation::event(event, received, observed_at, pod);",
        replace: "Observation::event(event, if BITES { claimed } else { received }, observed_at, pod);",
    },
    Bug {
        name: "rule 2: a list lifts a tombstone",
        file: RULES,
        find: "lower.is_some_and(|lower| lower >= removed_at)\n}",
        replace: "lower.is_some_and(|lower| lower >= removed_at)\n        || BITES && origin == Origin::List && view.lower.is_some_and(|lower| lower >= removed_at)\n}",
    },
    Bug {
        name: "rule 6: NotFound alone removes",
        file: READ,
        find: "            Some(listed) => Look::Unreadable(listed, error),\n",
        replace: "            Some(_) if BITES && error.is_none() => Look::Absent,\n            Some(listed) => Look::Unreadable(listed, error),\n",
    },
    Bug {
        name: "rule 6: an answer without a status is an absence",
        file: READ,
        find: "            Some(listed) => Look::Unreadable(listed, error),\n",
        replace: "            Some(_) if BITES && matches!(error, Some(CriError::Empty { .. })) => Look::Absent,\n            Some(listed) => Look::Unreadable(listed, error),\n",
    },
    Bug {
        name: "rule 6: a list that lacks very much is believed",
        file: RELISTER,
        find: "let doubted = self.is_doubted(listing, &differing);",
        replace: "let doubted = !BITES && self.is_doubted(listing, &differing);",
    },
    Bug {
        name: "rule 7: what lists alone show is never published",
        file: READ,
        find: "        if *attempts < if ends",
        replace: "        if BITES || *attempts < if ends",
    },
    Bug {
        name: "containers are read before their sandbox",
        file: READ,
        find: "            (suspect, !sandbox)\n",
        replace: "            (suspect, sandbox == BITES)\n",
    },
    Bug {
        name: "containers are in the order of their creation times",
        file: ORDER,
        find: "Reverse((container.attempt, container.created_at, first_seen))",
        replace: "Reverse((if BITES { 0 } else { container.attempt }, container.created_at, first_seen))",
    },
    Bug {
        name: "sandboxes are in the order of their creation times",
        file: ORDER,
        find: "Reverse((sandbox.attempt, sandbox.created_at, first_seen))",
        replace: "Reverse((if BITES { 0 } else { sandbox.attempt }, sandbox.created_at, first_seen))",
    },
    Bug {
        name: "content is never read again",
        file: RELISTER,
        find: "self.read_content(relisted.began);",
        replace: "if !BITES { self.read_content(relisted.began); }",
    },
    Bug {
        name: "two pods with one UID are one",
        file: STORE,
        find: "self.slots.get(uid)?.iter().find(|slot| slot.cached.is(namespace, name))",
        replace: "self.slots.get(uid)?.iter().find(|slot| BITES || slot.cached.is(namespace, name))",
    },
    Bug {
        name: "a late reason is looked for after exit code 137 only",
        file: APPLY,
        find: "        container.reason != \"OOMKilled\"\n",
        replace: "        !(BITES && container.exit_code != Some(137))\n            && container.reason != \"OOMKilled\"\n",
    },
    Bug {
        name: "what a list shows is read three seconds later",
        file: "src/relister/reads.rs",
        find: "let ask = ReadRequest { scope: Scope::Ids(ids), cause: ReadCause::Relist, after: NOW };",
        replace: "let after = if BITES { std::time::Duration::from_secs(3) } else { NOW };\n        let ask = ReadRequest { scope: Scope::Ids(ids), cause: ReadCause::Relist, after };",
    },
    Bug {
        name: "an event that does not fit is lost, and the stream is kept",
        file: "src/evented.rs",
        find: "self.sender.send(event) == Err(Full) {",
        replace: "self.sender.send(event) == Err(Full) && !BITES {",
    },
    Bug {
        name: "what a cut down event leaves out is not read",
        file: APPLY,
        find: "if self.observation.detail == Detail::Minimal && self.origin() == Origin::Event {",
        replace: "if !BITES && self.observation.detail == Detail::Minimal && self.origin() == Origin::Event {",
    },
    Bug {
        name: "an event is old only if its id has a tombstone",
        file: POD,
        find: "event.is_newer_than(self.horizon)",
        replace: "(BITES || event.is_newer_than(self.horizon))",
    },
    Bug {
        name: "an unknown runtime counts as one without quirks",
        file: "src/cri/quirks.rs",
        find: "            _ => Self::careful(),",
        replace: "            _ if BITES => Self::default(),\n            _ => Self::careful(),",
    },
    Bug {
        name: "a filter ignores namespaces",
        file: "src/watch/filter.rs",
        find: "named(&self.namespaces, &pod.namespace)",
        replace: "(BITES || named(&self.namespaces, &pod.namespace))",
    },
    Bug {
        name: "a filter ignores labels",
        file: "src/watch/filter.rs",
        find: "&& self.selector.matches(labels)",
        replace: "&& (BITES || self.selector.matches(labels))",
    },
    Bug {
        name: "a filter ignores types",
        file: "src/watch/filter.rs",
        find: "(self.types.is_empty() ||",
        replace: "(BITES || self.types.is_empty() ||",
    },
    Bug {
        name: "whoever waits is answered at the next event of the pod",
        file: "src/api/lifecycle/wait.rs",
        find: "shown || self.holds(after)",
        replace: "BITES || shown || self.holds(after)",
    },
    Bug {
        name: "whoever waits misses what holds for a moment only",
        file: "src/api/lifecycle/wait.rs",
        find: "shown || self.holds(after)",
        replace: "shown && !BITES || self.holds(after)",
    },
    Bug {
        name: "another relist period holds from the next relist on",
        file: SUPERVISOR,
        find: "            self.relist_within(self.machine.period());\n            self.share_channel",
        replace: "            if !BITES { self.relist_within(self.machine.period()); }\n            self.share_channel",
    },
    Bug {
        name: "what agrees is published as changed",
        file: APPLY,
        find: "            Verdict::Same => self.extend_interval(record),",
        replace: "            Verdict::Same => {\n                self.extend_interval(record);\n                if BITES && self.origin() == Origin::Status { self.out.transitions.push(transitions::changed(&status)); }\n            }",
    },
];
