package deploy_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// composeService is what is looked at of a service, as compose-go reads it.
type composeService struct {
	Image       string
	Build       *struct{ Context, Dockerfile string }
	Command     []string
	ReadOnly    bool                                  `json:"read_only"`
	CapDrop     []string                              `json:"cap_drop"`
	StopGrace   string                                `json:"stop_grace_period"`
	DependsOn   map[string]struct{ Condition string } `json:"depends_on"`
	Healthcheck *struct{ Test []string }
	Volumes     []struct{ Type, Source, Target string }
	Secrets     []struct{ Source, Target string }
	Ports       []struct {
		HostIP string `json:"host_ip"`
		Target int
	}
}

func TestCompose(t *testing.T) {
	var project struct {
		Services map[string]composeService
		Volumes  map[string]any
		Secrets  map[string]struct{ File string }
	}
	facts(t, nil, &project, "compose", "compose.yaml")
	im := newImage(t)
	c := im.container(t, "")

	keyhook := project.Services["keyhook"]
	if keyhook.Build == nil || filepath.Clean(keyhook.Build.Context) != ".." || keyhook.Build.Dockerfile != "Dockerfile" {
		t.Errorf("keyhook is built from %+v", keyhook.Build)
	}
	if keyhook.Command != nil || keyhook.Healthcheck != nil {
		t.Errorf("the image's own command and health check will do: %v, %v", keyhook.Command, keyhook.Healthcheck)
	}
	if !keyhook.ReadOnly || !slices.Contains(keyhook.CapDrop, "ALL") {
		t.Error("keyhook may write to its image, or has capabilities that it does not need")
	}
	if grace, err := time.ParseDuration(keyhook.StopGrace); err != nil || grace < 20*time.Second {
		t.Errorf("a stop takes up to 10 s and a commit, it has %s", keyhook.StopGrace)
	}
	for name, service := range project.Services {
		for _, port := range service.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s is published on %q", name, port.HostIP)
			}
		}
		for other, dependency := range service.DependsOn {
			if dependency.Condition == "service_healthy" && other != "keyhook" && project.Services[other].Healthcheck == nil {
				t.Errorf("%s waits for the health of %s, which has no health check", name, other)
			}
		}
		if service.Build == nil && !strings.Contains(filepath.Base(service.Image), ":") {
			t.Errorf("the image of %s has no version: %s", name, service.Image)
		}
	}

	// The configuration that is mounted, in the image.
	kept := false
	for _, v := range keyhook.Volumes {
		switch v.Type {
		case "volume":
			kept = slices.Contains(im.final.Volumes, v.Target)
			if _, ok := project.Volumes[v.Source]; !ok || !kept {
				t.Errorf("the volume %s is not what the image keeps its data in", v.Source)
			}
		case "bind":
			for _, name := range []string{"keyhook.yaml", "rules/changes.yaml"} {
				c.mount(filepath.Join(v.Target, name), read(t, filepath.Join(v.Source, name)))
			}
		}
	}
	if !kept {
		t.Error("the data is not kept")
	}
	for _, s := range keyhook.Secrets {
		if project.Secrets[s.Source].File == "" {
			t.Errorf("nothing is known of the secret %s", s.Source)
		}
		c.mount(s.Target, "s3cret")
	}
	c.check(im.final.Cmd[len(im.final.Cmd)-1])
	config := read(t, "compose/keyhook/keyhook.yaml")
	rules := read(t, "compose/keyhook/rules/changes.yaml")
	for file, names := range map[string][]string{
		config: {"http://etcd:2379", "dir: " + im.final.Volumes[0] + "}", "0.0.0.0:" + im.final.Exposed[0]},
		rules:  {"nats://nats:4222", "stream: CHANGES"},
	} {
		for _, name := range names {
			if !strings.Contains(file, name) {
				t.Errorf("the configuration does not say %s", name)
			}
		}
	}
	if stream := project.Services["stream"].Command; !slices.Contains(stream, "CHANGES") || !slices.Contains(stream, "--subjects=etcd.>") {
		t.Errorf("the stream that is made is not the one that is expected: %v", stream)
	}
}
