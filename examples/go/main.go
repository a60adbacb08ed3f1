// The shortest agent: prints each container that ends, with its reason and exit code.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	plegdv1 "first-agent/plegd/v1"
)

func main() {
	target := "unix:///run/plegd/plegd.sock"
	if len(os.Args) > 1 {
		target = os.Args[1]
	}
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	died := []plegdv1.EventType{plegdv1.EventType_EVENT_TYPE_CONTAINER_DIED}
	watch, err := plegdv1.NewPodLifecycleServiceClient(conn).Watch(context.Background(), &plegdv1.WatchRequest{
		Start:     plegdv1.Start_START_NOW,
		Filter:    &plegdv1.Filter{Types: died, ContainersOnly: true},
		WaitReady: true,
	})
	for err == nil {
		var message *plegdv1.WatchResponse
		if message, err = watch.Recv(); err != nil {
			break
		}
		if event := message.GetEvent(); event != nil {
			fmt.Println(event.Pod.Namespace, event.Pod.Name, event.ContainerName, event.Reason, code(event))
		} else if gap := message.GetGap(); gap != nil {
			fmt.Fprintln(os.Stderr, "events are missing from", gap.From, "on")
		}
	}
	log.Fatal(err)
}

func code(event *plegdv1.Event) string {
	if event.ExitCode == nil {
		return "unknown"
	}
	return fmt.Sprint(event.GetExitCode())
}
