package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/ollama/ollama/api"
)

func check(err error, what string) {
	if err != nil {
		fmt.Fprintln(os.Stderr, what+":", err)
		os.Exit(1)
	}
}

func main() {
	client, err := api.ClientFromEnvironment()
	check(err, "client")
	ctx := context.Background()
	model := os.Args[1]
	other := os.Args[2]
	question := os.Args[3]
	found := map[string]any{}
	check(client.Heartbeat(ctx), "heartbeat")
	version, err := client.Version(ctx)
	check(err, "version")
	found["version"] = version
	list, err := client.List(ctx)
	check(err, "list")
	names := []string{}
	for _, each := range list.Models {
		names = append(names, each.Name)
	}
	found["listed"] = names
	show, err := client.Show(ctx, &api.ShowRequest{Model: model})
	check(err, "show")
	found["capabilities"] = show.Capabilities
	text := ""
	options := map[string]any{"temperature": 0, "num_predict": 24}
	check(client.Chat(ctx, &api.ChatRequest{Model: model, Messages: []api.Message{{Role: "user", Content: question}}, Options: options}, func(r api.ChatResponse) error {
		text += r.Message.Content
		if r.Done {
			found["eval_count"] = r.EvalCount
			found["reason"] = r.DoneReason
		}
		return nil
	}), "chat")
	found["chat"] = text
	text = ""
	check(client.Generate(ctx, &api.GenerateRequest{Model: model, Prompt: question, Options: options}, func(r api.GenerateResponse) error {
		text += r.Response
		found["context"] = len(r.Context)
		return nil
	}), "generate")
	found["generate"] = text
	running, err := client.ListRunning(ctx)
	check(err, "ps")
	found["running"] = len(running.Models)
	status := ""
	check(client.Pull(ctx, &api.PullRequest{Model: other}, func(r api.ProgressResponse) error {
		status = r.Status
		return nil
	}), "pull")
	found["pulled"] = status
	check(client.Copy(ctx, &api.CopyRequest{Source: other, Destination: "gocopy"}), "copy")
	check(client.Create(ctx, &api.CreateRequest{Model: "gokind", From: "gocopy", System: "Be kind."}, func(r api.ProgressResponse) error {
		status = r.Status
		return nil
	}), "create")
	found["created"] = status
	for _, name := range []string{"gokind", "gocopy", other} {
		check(client.Delete(ctx, &api.DeleteRequest{Model: name}), "delete")
	}
	_, err = client.Show(ctx, &api.ShowRequest{Model: "nope"})
	found["missing"] = err.Error()
	raw, _ := json.Marshal(found)
	fmt.Println(string(raw))
}
