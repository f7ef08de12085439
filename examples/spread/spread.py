#!/usr/bin/env python3
"""Keeps N copies of a task running in an ECS cluster, each on the least loaded instance: a scheduler of your own on Blox.

    spread.py --blox http://127.0.0.1:2001,http://127.0.0.1:2002,http://127.0.0.1:2003 \\
              --cluster alpha --task-definition web --count 6

Several of these may run: one leads, the others wait. ECS is reached by boto3 with its own configuration (region, credentials,
AWS_ENDPOINT_URL). docs/build-your-own-scheduler.md walks through this file; the numbers in the comments are its steps.
"""

import argparse
import http.client
import json
import os
import queue
import signal
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid

import boto3
import botocore.config
import botocore.exceptions

REQUEST_SECONDS = 3.0  # one request to one node, and one call of ECS
SILENCE_SECONDS = 30.0  # a stream tells at least a bookmark within this
RENEW_SECONDS = 2.0  # the leader writes its record at least so often, ...
LEASE_SECONDS = 8.0  # ... and another takes over once it has not changed for so long
CHECK_SECONDS = 1.0  # a call is made only so soon after a write that proved the leadership
CLOSE_SECONDS = 60.0  # a start without an answer is given up after two empty look-ups so far apart
ABSENT_SECONDS = 120.0  # a task that Blox does not know is asked for at ECS after this
BACK_OFF_SECONDS = 15.0  # an instance that refused is left alone for this
TICK_SECONDS = 0.5


class Refused(Exception):
    """A node's answer, and it is no."""

    def __init__(self, status, body):
        super().__init__(f"{status}: {body[:200]!r}")
        self.status = status


class Unanswered(Exception):
    """No node has answered; what was asked may have happened."""


class Blox:
    """Any node will do: the one that answered last, then the next (1)."""

    def __init__(self, urls):
        self.urls = urls

    def ask(self, method, path, body=None, headers=()):
        """The answer of the first node that gives one: headers and body."""
        why = None
        for url in list(self.urls):
            request = urllib.request.Request(url + path, data=body, headers=dict(headers), method=method)
            try:
                with urllib.request.urlopen(request, timeout=REQUEST_SECONDS) as answer:
                    return answer.headers, answer.read()
            except urllib.error.HTTPError as error:
                if error.code < 500 and error.code != 429:
                    raise Refused(error.code, error.read()) from None
                why = error
            except (OSError, http.client.HTTPException) as error:
                why = error
            # It stops, has no leader, or is gone: its turn comes again after the others'.
            self.urls.append(self.urls.pop(self.urls.index(url)))
        raise Unanswered(f"no node has answered {method} {path}: {why}")

    def list(self, kind, cluster):
        """Everything of a kind in a cluster, and the revision at which this was so: pages are parts of one cut."""
        items, token = [], None
        while True:
            query = {"cluster": cluster, "limit": 1000} | ({"next_token": token} if token else {})
            _, body = self.ask("GET", f"/v2/{kind}?{urllib.parse.urlencode(query)}")
            page = json.loads(body)
            items += page["items"]
            token = page["next_token"]
            if not token:
                return items, page["revision"]

    def watch(self, from_revision):
        """The changes from a revision on, line by line, until the stream ends."""
        path = f"/v2/watch?kinds=task,instance&from_revision={from_revision}"
        url = self.urls[0]
        try:
            with urllib.request.urlopen(url + path, timeout=SILENCE_SECONDS) as stream:
                for line in stream:
                    yield json.loads(line)
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise Refused(error.code, error.read()) from None
        except (OSError, http.client.HTTPException, ValueError):
            pass  # the node is gone, or the line was cut short
        if url in self.urls:
            self.urls.append(self.urls.pop(self.urls.index(url)))

    def get_key(self, key):
        """A value and its revision; None where there is none."""
        try:
            headers, body = self.ask("GET", f"/v2/kv/{key}")
        except Refused as refused:
            if refused.status == 404:
                return None
            raise
        return json.loads(body), int(headers["X-Blox-Mod-Revision"])

    def put_key(self, key, value, expected):
        """Writes a value if the key stands at that revision (None: if it is not there). Its new revision.

        The idempotency key makes it safe to ask again where an answer was lost: it is written once (2)."""
        condition = ("If-None-Match", "*") if expected is None else ("If-Match", f'"{expected}"')
        headers = [condition, ("Idempotency-Key", str(uuid.uuid4()))]
        until = time.monotonic() + LEASE_SECONDS
        while True:
            try:
                _, answer = self.ask("PUT", f"/v2/kv/{key}", json.dumps(value).encode(), headers)
                return json.loads(answer)["mod_revision"]
            except Unanswered:
                if time.monotonic() > until:
                    raise
                time.sleep(TICK_SECONDS)


class View:
    """What Blox knows of one cluster: a list, then every change since (3)."""

    def __init__(self, blox, cluster):
        self.blox, self.cluster = blox, cluster
        self.tasks, self.instances = {}, {}
        self.changes = queue.Queue()

    def follow(self):
        """Lists and watches for ever; runs in a thread of its own."""
        while True:
            try:
                tasks, first = self.blox.list("tasks", self.cluster)
                instances, second = self.blox.list("instances", self.cluster)
            except (Refused, Unanswered):
                time.sleep(TICK_SECONDS)
                continue
            self.changes.put(("list", tasks, instances))
            # Two cuts: what lies between them is told again, and is older than what the second one held already.
            following = min(first, second) + 1
            try:
                while True:
                    for line in self.blox.watch(following):
                        if line["type"] == "ERROR":
                            break
                        following = max(following, line["revision"] + 1)
                        if line["type"] != "BOOKMARK":
                            self.changes.put(("change", line, None))
                    time.sleep(0.1)
            except Refused:
                time.sleep(TICK_SECONDS)  # too long ago: history is compacted, so the list is read anew

    def take(self, seconds):
        """Takes in what was told, waiting so long for the first of it."""
        try:
            change = self.changes.get(timeout=seconds)
            while True:
                self.apply(*change)
                change = self.changes.get_nowait()
        except queue.Empty:
            return

    def apply(self, what, first, second):
        if what == "list":
            self.tasks = {item["arn"]: item for item in first}
            self.instances = {item["arn"]: item for item in second}
            return
        if not is_of(self.cluster, first["cluster_arn"]):
            return
        kept = self.tasks if first["kind"] == "task" else self.instances
        if first["type"] == "DELETE":
            kept.pop(first["arn"], None)
        elif kept.get(first["arn"], {"revision": 0})["revision"] < first["revision"]:
            kept[first["arn"]] = first["object"]

    def started_by(self, launch):
        """The task that a launch started, if it is known yet."""
        return next((arn for arn, task in self.tasks.items() if task["document"].get("startedBy") == launch), None)


def is_of(cluster, arn):
    return cluster in (arn, arn.rsplit("/", 1)[-1])


def is_over(task):
    return task["document"].get("lastStatus") == "STOPPED"


def place(view, slots, wanted, left_alone):
    """Where the missing copies go: each on the instance with the fewest tasks, those just placed counted. Pure (4).

    `slots`: number -> {"launch", "instance", "task"}; gives number -> instance."""
    load = {}
    for arn, instance in view.instances.items():
        document = instance["document"]
        if document.get("status") == "ACTIVE" and document.get("agentConnected") and arn not in left_alone:
            load[arn] = 0
    known = set()
    for task in view.tasks.values():
        document = task["document"]
        known.add(document.get("startedBy"))
        if not is_over(task) and document.get("containerInstanceArn") in load:
            load[document["containerInstanceArn"]] += 1
    for slot in slots.values():
        if slot["launch"] not in known and slot["instance"] in load:
            load[slot["instance"]] += 1
    placed = {}
    for number in (str(number) for number in range(wanted)):
        if number not in slots and load:
            least = min(load, key=lambda arn: (load[arn], arn))
            placed[number] = least
            load[least] += 1
    return placed


class Lost(Exception):
    """Another one leads."""


class Scheduler:
    def __init__(self, arguments, blox, view, ecs):
        self.arguments, self.blox, self.view, self.ecs = arguments, blox, view, ecs
        self.key = f"schedulers/{arguments.name}"
        self.group = f"spread:{arguments.name}"
        self.me = f"{os.uname().nodename}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self.record, self.revision, self.written_at = None, None, 0.0
        self.noticed = {}  # launch or task -> when this process first saw it without its other half
        self.looked = set()  # launches that an early look-up has not found
        self.left_alone = {}  # instance -> until when
        self.stopping = False

    # Leadership (5): who leads stands in the same value as what it leads, so that whoever lost the one cannot write the other.

    def campaign(self):
        """Waits until the record is free, or has not changed for the time of a lease, and takes it."""
        seen, since = None, time.monotonic()
        while not self.stopping:
            found = self.blox.get_key(self.key)
            record, revision = found or ({"holder": None, "slots": {}}, None)
            if revision != seen:
                seen, since = revision, time.monotonic()
            if record["holder"] in (None, self.me) or time.monotonic() - since > LEASE_SECONDS:
                self.record, self.revision = record | {"holder": self.me}, revision
                try:
                    self.write()
                except Lost:
                    continue
                self.noticed, self.looked = {}, set()
                say("leads", f"{self.me}, with {len(record['slots'])} copies from before")
                return
            self.view.take(TICK_SECONDS)

    def write(self):
        """Writes the record as it is, which only its leader can."""
        try:
            self.revision = self.blox.put_key(self.key, self.record, self.revision)
        except Refused as refused:
            if refused.status == 412:
                raise Lost from None
            raise
        self.written_at = time.monotonic()

    def still_leads(self):
        """Before each call of ECS: one who has been asleep finds out here that another leads, or that its record is out of date."""
        if time.monotonic() - self.written_at > CHECK_SECONDS:
            self.write()

    def lead(self):
        """One look at everything."""
        if time.monotonic() - self.written_at > RENEW_SECONDS:
            self.write()
        self.take_note()
        self.close_what_never_started()
        self.start_what_is_missing()
        self.stop_what_is_too_much()

    # The launch protocol (6): intent, call, outcome.

    def take_note(self):
        """Binds what has shown itself, frees what has ended, and drops what is no longer wanted."""
        slots = self.record["slots"]
        before = json.dumps(slots, sort_keys=True)
        for number, slot in list(slots.items()):
            slot["task"] = slot["task"] or self.view.started_by(slot["launch"])
            task = self.view.tasks.get(slot["task"])
            if int(number) >= self.arguments.count and slot["task"]:
                del slots[number]
            elif task and is_over(task):
                say("ended", f"copy {number}: {task['document'].get('stoppedReason') or 'no reason given'}")
                del slots[number]
            elif slot["task"] and not task and self.is_gone(slot["task"]):
                say("gone", f"copy {number}: ECS does not know {short(slot['task'])}")
                del slots[number]
        if json.dumps(slots, sort_keys=True) != before:
            self.write()

    def start_what_is_missing(self):
        now = time.monotonic()
        self.left_alone = {arn: until for arn, until in self.left_alone.items() if until > now}
        placed = place(self.view, self.record["slots"], self.arguments.count, self.left_alone)
        if not placed:
            return
        for number, instance in placed.items():
            self.record["slots"][number] = {"launch": uuid.uuid4().hex, "instance": instance, "task": None}
        self.write()
        for number in placed:
            self.still_leads()
            self.start(number)

    def start(self, number):
        slot = self.record["slots"][number]
        try:
            answer = self.ecs.start_task(
                cluster=self.arguments.cluster,
                taskDefinition=self.arguments.task_definition,
                containerInstances=[slot["instance"]],
                group=self.group,
                startedBy=slot["launch"],
            )
        except botocore.exceptions.ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500:
                say("unknown", f"copy {number}: {error}")
                return  # it may have been started: see close_what_never_started
            answer = {"tasks": [], "failures": [{"reason": str(error)}]}
        except botocore.exceptions.BotoCoreError as error:
            say("unknown", f"copy {number}: {error}")
            return
        if answer["tasks"]:
            slot["task"] = answer["tasks"][0]["taskArn"]
            say("started", f"copy {number} on {short(slot['instance'])} as {short(slot['task'])}")
        else:
            say("refused", f"copy {number} on {short(slot['instance'])}: {answer['failures'][0].get('reason')}")
            self.left_alone[slot["instance"]] = time.monotonic() + BACK_OFF_SECONDS
            del self.record["slots"][number]
        self.write()

    def close_what_never_started(self):
        """A start without an answer is bound by the watch. Without that, two empty look-ups end it (7)."""
        for number, slot in list(self.record["slots"].items()):
            if slot["task"]:
                continue
            launch = slot["launch"]
            age = time.monotonic() - self.noticed.setdefault(launch, time.monotonic())
            due = REQUEST_SECONDS if launch not in self.looked else REQUEST_SECONDS + CLOSE_SECONDS
            if age < due:
                continue
            try:
                found = self.ecs.list_tasks(cluster=self.arguments.cluster, startedBy=launch)["taskArns"]
            except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError):
                continue
            if found:
                slot["task"] = found[0]
            elif launch in self.looked:
                say("closed", f"copy {number} was never started")
                del self.record["slots"][number]
            else:
                self.looked.add(launch)
                continue
            self.write()

    def is_gone(self, task):
        """Whether ECS itself says that a task which Blox does not show is not there."""
        if time.monotonic() - self.noticed.setdefault(task, time.monotonic()) < ABSENT_SECONDS:
            return False
        try:
            answer = self.ecs.describe_tasks(cluster=self.arguments.cluster, tasks=[task])
        except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError):
            return False
        return any(failure.get("reason") == "MISSING" for failure in answer["failures"])

    def stop_what_is_too_much(self):
        """Tasks of this scheduler that stand in no slot: copies no longer wanted, and one that came later than step 7 waited."""
        launches = {slot["launch"] for slot in self.record["slots"].values()}
        for arn, task in self.view.tasks.items():
            document = task["document"]
            ours = document.get("group") == self.group and document.get("startedBy") not in launches
            if ours and document.get("desiredStatus") != "STOPPED" and arn not in self.noticed:
                self.still_leads()
                self.noticed[arn] = time.monotonic()
                say("stops", f"{short(arn)}, which is too much")
                try:
                    self.ecs.stop_task(cluster=self.arguments.cluster, task=arn, reason="more copies than wanted")
                except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError):
                    del self.noticed[arn]  # stopping twice does no harm

    def is_steady(self):
        slots = self.record["slots"]
        running = [self.view.tasks.get(slot["task"], {"document": {}})["document"] for slot in slots.values()]
        return len(slots) == self.arguments.count and all(task.get("lastStatus") == "RUNNING" for task in running)

    def run(self):
        while not self.stopping:
            try:
                self.campaign()
                while not self.stopping:
                    self.view.take(TICK_SECONDS)
                    self.lead()
                    if self.arguments.until_steady and self.is_steady():
                        say("steady", f"{self.arguments.count} copies run")
                        self.stopping = True
            except Lost:
                say("follows", "another one leads")
            except (Unanswered, Refused) as why:
                say("waits", str(why))
                time.sleep(TICK_SECONDS)
        if self.record and self.record["holder"] == self.me:
            try:
                self.record["holder"] = None
                self.write()
                say("leaves", "the next one need not wait")
            except (Lost, Unanswered, Refused):
                pass


def short(arn):
    return arn.rsplit("/", 1)[-1][:8]


def say(what, about):
    print(f"{time.strftime('%H:%M:%S')} {what:<8} {about}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blox", required=True, help="the nodes' URLs, with commas between them")
    parser.add_argument("--cluster", required=True, help="name or ARN")
    parser.add_argument("--task-definition", required=True)
    parser.add_argument("--count", type=int, required=True, help="how many copies are to run")
    parser.add_argument("--name", default="spread", help="one record, and one leader, for each name")
    parser.add_argument("--until-steady", action="store_true", help="end once all copies run")
    arguments = parser.parse_args()

    # One attempt: a start that is tried again by itself would be a second one.
    limits = botocore.config.Config(
        connect_timeout=REQUEST_SECONDS, read_timeout=REQUEST_SECONDS, retries={"total_max_attempts": 1}
    )
    blox = Blox([url.rstrip("/") for url in arguments.blox.split(",")])
    view = View(Blox(list(blox.urls)), arguments.cluster)
    scheduler = Scheduler(arguments, blox, view, boto3.client("ecs", config=limits))
    signal.signal(signal.SIGTERM, lambda *_: setattr(scheduler, "stopping", True))
    signal.signal(signal.SIGINT, lambda *_: setattr(scheduler, "stopping", True))
    threading.Thread(target=view.follow, daemon=True).start()
    scheduler.run()


if __name__ == "__main__":
    sys.exit(main())
