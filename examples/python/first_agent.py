"""The shortest agent: prints each container that ends, with its reason and exit code."""

import sys

import grpc
from plegd.v1 import pod_lifecycle_pb2 as v1
from plegd.v1.pod_lifecycle_pb2_grpc import PodLifecycleServiceStub

target = sys.argv[1] if len(sys.argv) > 1 else "unix:/run/plegd/plegd.sock"
died = v1.Filter(types=[v1.EVENT_TYPE_CONTAINER_DIED], containers_only=True)
plegd = PodLifecycleServiceStub(grpc.insecure_channel(target))
for message in plegd.Watch(v1.WatchRequest(start=v1.START_NOW, filter=died, wait_ready=True)):
    if message.WhichOneof("update") == "event":
        event = message.event
        code = event.exit_code if event.HasField("exit_code") else "unknown"
        print(event.pod.namespace, event.pod.name, event.container_name, event.reason, code, flush=True)
    elif message.WhichOneof("update") == "gap":
        print("events are missing from", getattr(message.gap, "from"), "on", file=sys.stderr)
