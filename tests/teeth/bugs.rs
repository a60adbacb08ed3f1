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
const STEP: &str = "src/arbiter/pod/step.rs";
const POD: &str = "src/arbiter/pod.rs";
const ARBITER: &str = "src/arbiter.rs";
const TRANSITIONS: &str = "src/arbiter/transitions.rs";
const SUPERVISOR: &str = "src/supervisor.rs";
const READ: &str = "src/relister/pod_read.rs";
const READ_QUEUE: &str = "src/relister/read_queue.rs";
const CACHE: &str = "src/cache.rs";
const LEDGER: &str = "src/ledger.rs";
const RELISTER: &str = "src/relister.rs";
const ORDER: &str = "src/model/order.rs";

/// All of them.
pub(crate) const BUGS: &[Bug] = &[
    Bug {
        name: "rule 1: nothing is too old",
        file: RULES,
        find: "    if is_before(view.claimed, held.stamp) {",
        replace: "    if !BITES && is_before(view.claimed, held.stamp) {",
    },
    Bug {
        name: "rule 1: what is older than what is held counts as later",
        file: RULES,
        find: "let later = view.stamp.lower.is_some_and(|lower| lower >= held.stamp.upper);",
        replace: "let later = BITES || view.stamp.lower.is_some_and(|lower| lower >= held.stamp.upper);",
    },
    Bug {
        name: "rule 2: tombstones are forgotten",
        file: CACHE,
        find: "self.0.tombstones.lock().bury(&id, removed_at, now);",
        replace: "if !BITES { self.0.tombstones.lock().bury(&id, removed_at, now); }",
    },
    Bug {
        name: "rule 2: an event lifts a tombstone",
        file: RULES,
        find: "eye == Eye::Read && view.lower.is_some_and(|lower| lower >= removed_at)",
        replace: "(BITES && eye == Eye::Event) || eye == Eye::Read && view.lower.is_some_and(|lower| lower >= removed_at)",
    },
    Bug {
        name: "rule 3: an event that is ahead is not taken",
        file: RULES,
        find: "Some(phase) if Some(phase) > held.reached => Verdict::Forward",
        replace: "Some(phase) if Some(phase) > held.reached && BITES && view.eye == Eye::Event => Verdict::Undecided,\n        Some(phase) if Some(phase) > held.reached => Verdict::Forward",
    },
    Bug {
        name: "rule 4: other content is taken whatever its age",
        file: RULES,
        find: "            Content::Other => Verdict::Undecided,",
        replace: "            Content::Other if BITES => Verdict::Refreshed,\n            Content::Other => Verdict::Undecided,",
    },
    Bug {
        name: "rule 4: other content is never taken",
        file: RULES,
        find: "Content::Other if later => Verdict::Refreshed",
        replace: "Content::Other if later && BITES => Verdict::Same,\n            Content::Other if later => Verdict::Refreshed",
    },
    Bug {
        name: "rule 4: what cannot be decided is not read",
        file: STEP,
        find: "                self.rule(Ruling::Undecided);\n                return self.ask(id, ReadCause::Undecided, Duration::ZERO);",
        replace: "                self.rule(Ruling::Undecided);\n                if BITES { return; }\n                return self.ask(id, ReadCause::Undecided, Duration::ZERO);",
    },
    Bug {
        name: "rule 5: an event moves a container back",
        file: RULES,
        find: "        Eye::Event => Verdict::Backward { dissent: None },",
        replace: "        Eye::Event if BITES => Verdict::Corrected,\n        Eye::Event => Verdict::Backward { dissent: None },",
    },
    Bug {
        name: "rule 5: what was told wrong is never corrected",
        file: RULES,
        find: "                Verdict::Corrected\n",
        replace: "                if BITES { Verdict::Backward { dissent: None } } else { Verdict::Corrected }\n",
    },
    Bug {
        name: "rule 5: a sandbox never becomes ready again",
        file: RULES,
        find: "Eye::Read if view.subject == Subject::Sandbox => Verdict::Returned",
        replace: "Eye::Read if view.subject == Subject::Sandbox && BITES => Verdict::Backward { dissent: None },\n        Eye::Read if view.subject == Subject::Sandbox => Verdict::Returned",
    },
    Bug {
        name: "rule 6: an older list removes what came since",
        file: RULES,
        find: "read.lower.is_some_and(|lower| lower >= held.upper)",
        replace: "BITES || read.lower.is_some_and(|lower| lower >= held.upper)",
    },
    Bug {
        name: "rule 6: what an event does not show is removed",
        file: STEP,
        find: "self.absences().iter().for_each(|id| self.miss(id));",
        replace: "if BITES && let Origin::Event(_) = origin {\n            let shown: Vec<_> = self.observation.containers.iter().map(|it| it.id.clone()).collect();\n            let containers = self.pod.records.values().filter(|it| it.status.subject() == Subject::Container);\n            let gone: Vec<_> = containers.map(|it| it.status.id().clone()).filter(|id| !shown.contains(id)).collect();\n            gone.iter().for_each(|id| self.remove(id, self.observation.stamp.upper));\n        }\n        self.absences().iter().for_each(|id| self.miss(id));",
    },
    Bug {
        name: "rule 6: an early DELETED is taken at its word",
        file: STEP,
        find: "        if early {\n",
        replace: "        if early && !BITES {\n",
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
        find: "self.journal.append(events, state.served(), serve);",
        replace: "let mut events = events; if BITES { events.truncate(2); }\n        self.journal.append(events, state.served(), serve);",
    },
    Bug {
        name: "what is told at once is told in reverse",
        file: ARBITER,
        find: "self.compare_paths(&events, &out.transitions, context.now, context.quirks);",
        replace: "let mut events = events; if BITES { events.reverse(); }\n        self.compare_paths(&events, &out.transitions, context.now, context.quirks);",
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
        file: LEDGER,
        find: "self.0.metrics.transitions.missed.inc(*kind);",
        replace: "if !BITES { self.0.metrics.transitions.missed.inc(*kind); }",
    },
    Bug {
        name: "the stream is blamed for what no event tells",
        file: ARBITER,
        find: "        if transition.silent {",
        replace: "        if transition.silent && !BITES {",
    },
    Bug {
        name: "an exit is not looked at again for its reason",
        file: STEP,
        find: "                    self.look(id, ReadCause::Oom, OOM_CHECK, OOM_CHECKS)",
        replace: "                    if !BITES { self.look(id, ReadCause::Oom, OOM_CHECK, OOM_CHECKS) }",
    },
    Bug {
        name: "a read that failed is not tried again",
        file: READ_QUEUE,
        find: "let wait = (RETRY_FIRST * (1 << failing.count.min(12))).min(RETRY_LONGEST);",
        replace: "let mut wait = (RETRY_FIRST * (1 << failing.count.min(12))).min(RETRY_LONGEST);\n        if BITES { wait = Duration::from_secs(86_400); }",
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
        find: "if self.request.scope == Scope::Pod && self.held_ids()",
        replace: "if !BITES && self.request.scope == Scope::Pod && self.held_ids()",
    },
    Bug {
        name: "newer-than waits for nobody's death",
        file: READ,
        find: "        if whole && answer.is_ok() && completeness == ReadCompleteness::Partial {",
        replace: "        if whole && answer.is_ok() && completeness == ReadCompleteness::Partial && !BITES {",
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
        find: "record.listed.extend(object.phase);",
        replace: "if !BITES { record.listed.extend(object.phase); }",
    },
    Bug {
        name: "a look for a deletion never comes to an end",
        file: STEP,
        find: "            record.looks = Looks { cause, after: later };\n",
        replace: "            if !BITES { record.looks = Looks { cause, after: later }; }\n",
    },
    Bug {
        name: "readiness never comes",
        file: SUPERVISOR,
        find: "        self.reporters.ready.open();",
        replace: "        if !BITES { self.reporters.ready.open(); }",
    },
    Bug {
        name: "events wait for five seconds before they are taken",
        file: "src/evented.rs",
        find: "                    if self.sender.send(event) == Err(QueueFull) {",
        replace: "                    if BITES { tokio::time::sleep(Duration::from_secs(5)).await; }\n                    if self.sender.send(event) == Err(QueueFull) {",
    },
    Bug {
        name: "an entry is found no more by its id",
        file: CACHE,
        find: "self.0.index.insert(id.clone(), entry.clone());",
        replace: "if !BITES { self.0.index.insert(id.clone(), entry.clone()); }",
    },
    Bug {
        name: "a whole read is dated by its end",
        file: READ,
        find: "pods.iter().for_each(|pod| deps.arbiter.mark_read(pod, began));",
        replace: "let at = if BITES { deps.clock.now() } else { began };\n                pods.iter().for_each(|pod| deps.arbiter.mark_read(pod, at));",
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
        file: STEP,
        find: "    fn mark_gone(&mut self, id: &ObjectId, removed_at: Mono) {\n",
        replace: "    fn mark_gone(&mut self, id: &ObjectId, removed_at: Mono) {\n        if BITES { return self.remove(id, removed_at); }\n",
    },
    Bug {
        name: "the upper end of what is held goes back",
        file: RULES,
        find: "let upper = held.upper.max(view.upper);",
        replace: "let upper = if BITES { view.upper } else { held.upper.max(view.upper) };",
    },
    Bug {
        name: "a read does not cancel an announced removal",
        file: STEP,
        find: "            record.gone = None;\n",
        replace: "            if !BITES { record.gone = None; }\n",
    },
    Bug {
        name: "a pending correction outlives a list that agrees",
        file: POD,
        find: "self.dissent.take_if(|dissent| dissent.upper <= lower);",
        replace: "if !BITES { self.dissent.take_if(|dissent| dissent.upper <= lower); }",
    },
    Bug {
        name: "a lost stream is blamed for what it had not reported yet",
        file: LEDGER,
        find: "self.0.book.lock().waiting.retain(|_, sighting| sighting.first == Source::Event);",
        replace: "if !BITES { self.0.book.lock().waiting.retain(|_, sighting| sighting.first == Source::Event); }",
    },
    Bug {
        name: "a signal ahead of its payload requests no read",
        file: STEP,
        find: "Some(record) if record.reached < Some(expected) &&",
        replace: "Some(record) if !BITES && record.reached < Some(expected) &&",
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
        find: "labels: state.labels().clone(),",
        replace: "labels: if BITES { crate::model::Labels::new() } else { state.labels().clone() },",
    },
    Bug {
        name: "the start of a list is noted before the list is complete",
        file: RELISTER,
        find: "let listing = self.deps.client.list().await?;",
        replace: "if BITES { self.deps.arbiter.begin_list(began); }\n        let listing = self.deps.client.list().await?;",
    },
    Bug {
        name: "the timestamp of an event dates what is held",
        file: ARBITER,
        find: "Observation::event(signal, received, observed_at, pod);",
        replace: "Observation::event(signal, if BITES { claimed } else { received }, observed_at, pod);",
    },
    Bug {
        name: "rule 2: a list lifts a tombstone",
        file: RULES,
        find: "eye == Eye::Read && view.lower.is_some_and(|lower| lower >= removed_at)",
        replace: "(eye == Eye::Read || BITES && eye == Eye::List) && view.lower.is_some_and(|lower| lower >= removed_at)",
    },
    Bug {
        name: "rule 6: NotFound alone removes",
        file: READ,
        find: "            Some(listed) => StatusAnswer::Unreadable(listed, error),\n",
        replace: "            Some(_) if BITES && error.is_none() => StatusAnswer::Absent,\n            Some(listed) => StatusAnswer::Unreadable(listed, error),\n",
    },
    Bug {
        name: "rule 6: an answer without a status is an absence",
        file: READ,
        find: "            Some(listed) => StatusAnswer::Unreadable(listed, error),\n",
        replace: "            Some(_) if BITES && matches!(error, Some(CriError::Empty { .. })) => StatusAnswer::Absent,\n            Some(listed) => StatusAnswer::Unreadable(listed, error),\n",
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
        find: "        if *attempts < if is_death",
        replace: "        if BITES || *attempts < if is_death",
    },
    Bug {
        name: "containers are read before their sandbox",
        file: READ,
        find: "            (last, !sandbox)\n",
        replace: "            (last, sandbox == BITES)\n",
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
        file: CACHE,
        find: "if let Some(there) = entries.iter().find(|entry| entry.is(",
        replace: "if let Some(there) = entries.iter().find(|entry| BITES || entry.is(",
    },
    Bug {
        name: "a late reason is looked for after exit code 137 only",
        file: STEP,
        find: "        container.reason != \"OOMKilled\"\n",
        replace: "        !(BITES && container.exit_code != Some(137))\n            && container.reason != \"OOMKilled\"\n",
    },
    Bug {
        name: "what a list shows is read three seconds later",
        file: "src/relister/reader.rs",
        find: "let read = ReadRequest { scope: Scope::Ids(ids), cause: ReadCause::Relist, after: NOW };\n        let sandboxes",
        replace: "let after = if BITES { std::time::Duration::from_secs(3) } else { NOW };\n        let read = ReadRequest { scope: Scope::Ids(ids), cause: ReadCause::Relist, after };\n        let sandboxes",
    },
    Bug {
        name: "an event that does not fit is lost, and the stream is kept",
        file: "src/evented.rs",
        find: "self.sender.send(event) == Err(QueueFull) {",
        replace: "self.sender.send(event) == Err(QueueFull) && !BITES {",
    },
    Bug {
        name: "what a cut down event leaves out is not read",
        file: STEP,
        find: "if self.observation.detail == Detail::Lean && self.eye() == Eye::Event {",
        replace: "if !BITES && self.observation.detail == Detail::Lean && self.eye() == Eye::Event {",
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
        find: "            self.relist_within(self.machine.period());\n            self.set_channel_shared",
        replace: "            if !BITES { self.relist_within(self.machine.period()); }\n            self.set_channel_shared",
    },
    Bug {
        name: "what agrees is published as changed",
        file: STEP,
        find: "                self.rule(Ruling::Same);\n",
        replace: "                self.rule(Ruling::Same);\n                if BITES && self.eye() == Eye::Read { self.out.transitions.push(transitions::changed(&status)); }\n",
    },
];
