package deploy_test

import (
	"errors"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

const manifestFile = "kubernetes/keyhook.yaml"

// Kubernetes' own schemas, of each minor release that kubectl-validate brings.
func TestTheManifestIsWhatKubernetesTakes(t *testing.T) {
	for _, release := range []string{"1.27", "1.28", "1.29", "1.30"} {
		if said, err := kubectlValidate.run(t, "--version", release, manifestFile); err != nil {
			t.Errorf("%s: %v\n%s", release, err, said)
		}
	}
	wrong := filepath.Join(t.TempDir(), "wrong.yaml")
	write(t, wrong, strings.Replace(read(t, manifestFile), "periodSeconds:", "periodSecond:", 1))
	if said, err := kubectlValidate.run(t, wrong); err == nil {
		t.Errorf("an unknown field passes:\n%s", said)
	}
}

// object is one of the manifest's, or a part of one.
type object map[string]any

// manifest returns the objects of the manifest by kind and name.
func manifest(t *testing.T) map[string]object {
	t.Helper()
	objects := make(map[string]object)
	decoder := yaml.NewDecoder(strings.NewReader(read(t, manifestFile)))
	for {
		var o object
		err := decoder.Decode(&o)
		if errors.Is(err, io.EOF) {
			return objects
		}
		if err != nil {
			t.Fatal(err)
		}
		objects[get[string](t, o, "kind")+"/"+get[string](t, o, "metadata", "name")] = o
	}
}

// get returns what lies at a path of names and numbers.
func get[T any](t *testing.T, o object, path ...any) T {
	t.Helper()
	var at any = map[string]any(o)
	for _, step := range path {
		switch step := step.(type) {
		case string:
			switch m := at.(type) {
			case map[string]any:
				at = m[step]
			case object:
				at = m[step]
			default:
				at = nil
			}
		case int:
			list, ok := at.([]any)
			if !ok || step >= len(list) {
				t.Fatalf("there is no %v", path)
			}
			at = list[step]
		}
	}
	if m, ok := at.(map[string]any); ok {
		at = object(m)
	}
	v, ok := at.(T)
	if !ok {
		t.Fatalf("%v is %T", path, at)
	}
	return v
}

// parts returns the list at a path.
func parts(t *testing.T, o object, path ...any) []object {
	t.Helper()
	var all []object
	for i := range get[[]any](t, o, path...) {
		all = append(all, get[object](t, o, append(slices.Clone(path), i)...))
	}
	return all
}

// The parts of the manifest fit each other and the image.
func TestTheManifestFitsTheImage(t *testing.T) {
	objects := manifest(t)
	set := objects["StatefulSet/keyhook"]
	pod := get[object](t, set, "spec", "template", "spec")
	container := get[object](t, pod, "containers", 0)
	im := newImage(t)

	for path, want := range map[string]int{"runAsUser": im.uid, "runAsGroup": im.gid, "fsGroup": im.gid} {
		if got := get[int](t, pod, "securityContext", path); got != want {
			t.Errorf("%s is %d, the image's is %d", path, got, want)
		}
	}
	if n := get[int](t, set, "spec", "replicas"); n != 1 {
		t.Errorf("%d processes for one directory", n)
	}
	if s := get[int](t, pod, "terminationGracePeriodSeconds"); s < 20 {
		t.Errorf("a stop takes up to 10 s and a commit, it has %d", s)
	}
	if !get[bool](t, container, "securityContext", "readOnlyRootFilesystem") {
		t.Error("the image can be written to")
	}
	for probe, page := range map[string]string{"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"} {
		if got := get[string](t, container, probe, "httpGet", "path"); got != page {
			t.Errorf("the %s asks for %s", probe, got)
		}
		if got := get[string](t, container, probe, "httpGet", "port"); got != get[string](t, container, "ports", 0, "name") {
			t.Errorf("the %s asks the port %s", probe, got)
		}
	}
	if port := get[string](t, objects["Service/keyhook"], "spec", "ports", 0, "targetPort"); port != get[string](t, container, "ports", 0, "name") {
		t.Errorf("the service leads to the port %s", port)
	}
	labels := get[object](t, set, "spec", "template", "metadata", "labels")
	for name, selector := range map[string]object{
		"the set":     get[object](t, set, "spec", "selector", "matchLabels"),
		"the service": get[object](t, objects["Service/keyhook"], "spec", "selector"),
	} {
		if !maps.Equal(selector, labels) {
			t.Errorf("%s selects %v, the pod has %v", name, selector, labels)
		}
	}
	if name := get[string](t, set, "spec", "serviceName"); objects["Service/"+name] == nil {
		t.Errorf("there is no service %s", name)
	}
}

// The configuration of the manifest, where it is mounted, in the image.
func TestTheManifestsConfigurationPassesCheck(t *testing.T) {
	objects := manifest(t)
	set := objects["StatefulSet/keyhook"]
	pod := get[object](t, set, "spec", "template", "spec")
	container := get[object](t, pod, "containers", 0)
	im := newImage(t)
	c := im.container(t, "")

	claims := make(map[string]bool)
	for _, claim := range parts(t, set, "spec", "volumeClaimTemplates") {
		claims[get[string](t, claim, "metadata", "name")] = true
	}
	volumes := make(map[string]object)
	for _, v := range parts(t, pod, "volumes") {
		volumes[get[string](t, v, "name")] = v
	}
	kept := ""
	for _, mount := range parts(t, container, "volumeMounts") {
		name, path := get[string](t, mount, "name"), get[string](t, mount, "mountPath")
		switch volume := volumes[name]; {
		case claims[name]:
			kept = path
		case volume["configMap"] != nil:
			source := objects["ConfigMap/"+get[string](t, volume, "configMap", "name")]
			for file := range get[object](t, source, "data") {
				c.mount(filepath.Join(path, file), get[string](t, source, "data", file))
			}
		case volume["secret"] != nil:
			c.mount(filepath.Join(path, "admin_token"), "s3cret")
		default:
			t.Errorf("nothing is known of the volume %s", name)
		}
	}
	if !slices.Contains(im.final.Volumes, kept) {
		t.Errorf("the volume is at %s, the image keeps its data in %v", kept, im.final.Volumes)
	}
	var args []string
	for i := range get[[]any](t, container, "args") {
		args = append(args, get[string](t, container, "args", i))
	}
	if !slices.Equal(args, im.final.Cmd) {
		t.Errorf("it runs %q, the image %q", args, im.final.Cmd)
	}
	c.check(args[len(args)-1])

	config := get[string](t, objects["ConfigMap/keyhook"], "data", "keyhook.yaml")
	// Below the mount: the volume's root belongs to root, and to more than one.
	if !strings.Contains(config, "dir: "+kept+"/") {
		t.Errorf("the data is not kept in the volume:\n%s", config)
	}
	if port := get[int](t, container, "ports", 0, "containerPort"); !strings.Contains(config, "listen: 0.0.0.0:8585") || port != 8585 {
		t.Errorf("the probes ask port %d of\n%s", port, config)
	}
}
