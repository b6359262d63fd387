package deploy_test

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"weir/internal/config"
	"weir/internal/telemetry"
)

// kustomization and the types below have the keys of the Kubernetes API that are in use. The API's own Go types would
// bring in 19 modules, for these few.
type kustomization struct {
	APIVersion         string `yaml:"apiVersion"`
	Kind               string
	Namespace          string
	Resources          []string
	Patches            []struct{ Path string }
	ConfigMapGenerator []struct {
		Name    string
		Envs    []string
		Options struct{ Labels map[string]string }
	} `yaml:"configMapGenerator"`
	Images []struct {
		Name    string
		NewName string `yaml:"newName"`
		NewTag  string `yaml:"newTag"`
	}
}

type metadata struct {
	Name        string
	Labels      map[string]string
	Annotations map[string]string
}

type namespace struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   metadata
}

type serviceAccount struct {
	APIVersion                   string `yaml:"apiVersion"`
	Kind                         string
	Metadata                     metadata
	AutomountServiceAccountToken *bool `yaml:"automountServiceAccountToken"`
}

type daemonSet struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   metadata
	Spec       struct {
		Selector struct {
			MatchLabels map[string]string `yaml:"matchLabels"`
		}
		UpdateStrategy struct {
			Type          string
			RollingUpdate struct {
				MaxUnavailable string `yaml:"maxUnavailable"`
			} `yaml:"rollingUpdate"`
		} `yaml:"updateStrategy"`
		Template struct {
			Metadata metadata
			Spec     podSpec
		}
	}
}

type podSpec struct {
	HostNetwork                  bool              `yaml:"hostNetwork"`
	DNSPolicy                    string            `yaml:"dnsPolicy"`
	EnableServiceLinks           *bool             `yaml:"enableServiceLinks"`
	ServiceAccountName           string            `yaml:"serviceAccountName"`
	AutomountServiceAccountToken *bool             `yaml:"automountServiceAccountToken"`
	PriorityClassName            string            `yaml:"priorityClassName"`
	NodeSelector                 map[string]string `yaml:"nodeSelector"`
	Tolerations                  []struct{ Operator string }
	Grace                        int `yaml:"terminationGracePeriodSeconds"`
	SecurityContext              struct {
		RunAsNonRoot   bool                  `yaml:"runAsNonRoot"`
		RunAsUser      int                   `yaml:"runAsUser"`
		RunAsGroup     int                   `yaml:"runAsGroup"`
		SeccompProfile struct{ Type string } `yaml:"seccompProfile"`
	} `yaml:"securityContext"`
	Containers []container
	Volumes    []struct {
		Name     string
		HostPath struct{ Path, Type string } `yaml:"hostPath"`
	}
}

type container struct {
	Name            string
	Image           string
	ImagePullPolicy string `yaml:"imagePullPolicy"`
	Args            []string
	EnvFrom         []struct {
		ConfigMapRef struct{ Name string } `yaml:"configMapRef"`
	} `yaml:"envFrom"`
	Env []struct {
		Name      string
		Value     string
		ValueFrom struct {
			FieldRef struct {
				FieldPath string `yaml:"fieldPath"`
			} `yaml:"fieldRef"`
		} `yaml:"valueFrom"`
	}
	Ports []struct {
		Name          string
		ContainerPort int `yaml:"containerPort"`
	}
	Resources struct {
		Requests, Limits map[string]string
	}
	SecurityContext struct {
		AllowPrivilegeEscalation *bool `yaml:"allowPrivilegeEscalation"`
		ReadOnlyRootFilesystem   bool  `yaml:"readOnlyRootFilesystem"`
		Capabilities             struct{ Drop, Add []string }
	} `yaml:"securityContext"`
	VolumeMounts []struct {
		Name      string
		MountPath string `yaml:"mountPath"`
	} `yaml:"volumeMounts"`
	LivenessProbe  probe `yaml:"livenessProbe"`
	ReadinessProbe probe `yaml:"readinessProbe"`
}

type probe struct {
	HTTPGet          struct{ Path, Port string } `yaml:"httpGet"`
	PeriodSeconds    int                         `yaml:"periodSeconds"`
	TimeoutSeconds   int                         `yaml:"timeoutSeconds"`
	FailureThreshold int                         `yaml:"failureThreshold"`
}

// no is what stands there; not to say anything would mean yes.
var no = new(bool)

// manifest reads the DaemonSet and its one container.
func manifest(t *testing.T) (daemonSet, container) {
	t.Helper()
	return daemonSetOf(t, "kubernetes/daemonset.yaml")
}

func daemonSetOf(t *testing.T, path string) (daemonSet, container) {
	t.Helper()
	ds := decode[daemonSet](t, path)
	if n := len(ds.Spec.Template.Spec.Containers); n != 1 {
		t.Fatalf("%d containers", n)
	}
	return ds, ds.Spec.Template.Spec.Containers[0]
}

// node returns the settings that weir has on a node with that address.
func node(t *testing.T, hostIP string) config.Settings {
	t.Helper()
	_, weir := manifest(t)
	fields := map[string]string{"spec.nodeName": "node-1", "status.hostIP": hostIP}
	environ, _ := envFile(t, "kubernetes/settings.env")
	var expand []string
	for _, variable := range weir.Env {
		value := strings.NewReplacer(expand...).Replace(variable.Value) // $(NAME) of an earlier one
		if path := variable.ValueFrom.FieldRef.FieldPath; path != "" {
			value = fields[path]
		}
		expand = append(expand, "$("+variable.Name+")", value)
		environ = append(environ, variable.Name+"="+value)
	}
	return settings(t, environ)
}

func TestKustomization(t *testing.T) {
	k := decode[kustomization](t, "kubernetes/kustomization.yaml")
	ds, weir := manifest(t)

	used := append([]string{"kustomization.yaml"}, k.Resources...)
	for _, generator := range k.ConfigMapGenerator {
		used = append(used, generator.Envs...)
	}
	entries, err := os.ReadDir("kubernetes")
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, entry := range entries {
		files = append(files, entry.Name())
	}
	slices.Sort(used)
	equal(t, "what the kustomization uses", used, files)

	if len(k.ConfigMapGenerator) != 1 || len(weir.EnvFrom) != 1 || len(k.Images) != 1 {
		t.Fatal("want one ConfigMap and one image")
	}
	equal(t, "the ConfigMap of the settings", weir.EnvFrom[0].ConfigMapRef.Name, k.ConfigMapGenerator[0].Name)
	equal(t, "the image", weir.Image, k.Images[0].Name)

	ns := decode[namespace](t, "kubernetes/namespace.yaml")
	equal(t, "the namespace", ns.Metadata.Name, k.Namespace)
	equal(t, "what the namespace admits", ns.Metadata.Labels["pod-security.kubernetes.io/enforce"], "privileged")
	account := decode[serviceAccount](t, "kubernetes/serviceaccount.yaml")
	equal(t, "the service account", ds.Spec.Template.Spec.ServiceAccountName, account.Metadata.Name)
	equal(t, "its token is mounted", account.AutomountServiceAccountToken, no)
}

func TestDaemonSet(t *testing.T) {
	ds, weir := manifest(t)
	pod := ds.Spec.Template.Spec

	equal(t, "selector", ds.Spec.Selector.MatchLabels, ds.Spec.Template.Metadata.Labels)
	equal(t, "maxUnavailable", ds.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable, "10%")
	equal(t, "hostNetwork", pod.HostNetwork, true)
	equal(t, "dnsPolicy", pod.DNSPolicy, "ClusterFirstWithHostNet")
	equal(t, "enableServiceLinks", pod.EnableServiceLinks, no)
	equal(t, "tolerations", pod.Tolerations, []struct{ Operator string }{{"Exists"}})

	equal(t, "automountServiceAccountToken", pod.AutomountServiceAccountToken, no)
	equal(t, "runAsNonRoot", pod.SecurityContext.RunAsNonRoot, true)
	user, group := strconv.Itoa(pod.SecurityContext.RunAsUser), strconv.Itoa(pod.SecurityContext.RunAsGroup)
	equal(t, "user and group", user+":"+group, find(t, "../Dockerfile", `^USER (\S+)$`))
	equal(t, "seccompProfile", pod.SecurityContext.SeccompProfile.Type, "RuntimeDefault")
	equal(t, "allowPrivilegeEscalation", weir.SecurityContext.AllowPrivilegeEscalation, no)
	equal(t, "readOnlyRootFilesystem", weir.SecurityContext.ReadOnlyRootFilesystem, true)
	equal(t, "dropped capabilities", weir.SecurityContext.Capabilities.Drop, []string{"ALL"})
	equal(t, "added capabilities", weir.SecurityContext.Capabilities.Add, capabilities)

	s := node(t, "192.0.2.1")
	equal(t, "the name of the node in events", s.Hostname, "node-1")
	checkStop(t, time.Duration(pod.Grace)*time.Second, s)
	if _, limited := weir.Resources.Limits["cpu"]; limited {
		t.Error("there is a CPU limit")
	}
	var goLimit string
	for _, variable := range weir.Env {
		if variable.Name == "GOMEMLIMIT" {
			goLimit = variable.Value
		}
	}
	checkMemory(t, mebibytes(t, weir.Resources.Limits["memory"], "Mi"), mebibytes(t, goLimit, "MiB"), s)
}

// TestDurable holds that the patch is of the DaemonSet, and that what outlives the pod is on the node.
func TestDurable(t *testing.T) {
	k := decode[kustomization](t, "kubernetes-durable/kustomization.yaml")
	base, ordinary := manifest(t)
	ds, weir := daemonSetOf(t, "kubernetes-durable/"+k.Patches[0].Path)
	equal(t, "what is patched", ds.Metadata.Name+" "+weir.Name, base.Metadata.Name+" "+ordinary.Name)
	equal(t, "its base", k.Resources, []string{"../kubernetes"})

	environ, _ := envFile(t, "kubernetes/settings.env")
	for _, variable := range weir.Env {
		environ = append(environ, variable.Name+"="+variable.Value)
	}
	s := settings(t, environ)
	mounts := map[string]string{}
	for _, mount := range weir.VolumeMounts {
		mounts[mount.Name] = mount.MountPath
	}
	for _, volume := range ds.Spec.Template.Spec.Volumes {
		equal(t, "where "+volume.Name+" is mounted", mounts[volume.Name], volume.HostPath.Path)
		delete(mounts, volume.Name)
		mounts[volume.HostPath.Path] = volume.HostPath.Type
	}
	equal(t, "the folders of the node", mounts, map[string]string{
		filepath.Dir(s.SpoolDir): "DirectoryOrCreate", filepath.Dir(s.PinDir): "Directory",
	})
	equal(t, "the folder to unpin", find(t, "kubernetes-durable/kustomization.yaml", `/weir unpin --pin-dir (\S+)$`), s.PinDir)
}

// TestListen holds that weir listens where the probes and Prometheus ask, on nodes of either IP version.
func TestListen(t *testing.T) {
	ds, weir := manifest(t)
	if len(weir.Ports) != 1 {
		t.Fatalf("%d ports", len(weir.Ports))
	}
	port := weir.Ports[0]
	for _, ip := range []string{"192.0.2.1", "2001:db8::1"} {
		host, listen, err := net.SplitHostPort(node(t, ip).Listen)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "the address listened on", netip.MustParseAddr(host), netip.MustParseAddr(ip))
		equal(t, "the port listened on", listen, strconv.Itoa(port.ContainerPort))
	}
	scraped := ds.Spec.Template.Metadata.Annotations["prometheus.io/port"]
	equal(t, "the scraped port", scraped, strconv.Itoa(port.ContainerPort))
	equal(t, "the liveness probe's port", weir.LivenessProbe.HTTPGet.Port, port.Name)
	equal(t, "the readiness probe's port", weir.ReadinessProbe.HTTPGet.Port, port.Name)
}

// TestProbes asks a server, first of a healthy agent and then of one that is neither live nor ready, for the probes'
// paths, and what Prometheus asks by default.
func TestProbes(t *testing.T) {
	_, weir := manifest(t)
	for _, well := range []bool{true, false} {
		server, err := telemetry.Listen(telemetry.Config{
			Listen:   "127.0.0.1:0",
			Live:     func() (bool, string) { return well, "" },
			Ready:    func() []telemetry.Check { return []telemetry.Check{{OK: well}} },
			Gatherer: prometheus.NewRegistry(),
		}, zap.NewNop())
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		stopped := make(chan error, 1)
		go func() { stopped <- server.Run(ctx) }()

		probed := http.StatusOK
		if !well {
			probed = http.StatusServiceUnavailable
		}
		for path, want := range map[string]int{
			weir.LivenessProbe.HTTPGet.Path:  probed,
			weir.ReadinessProbe.HTTPGet.Path: probed,
			"/metrics":                       http.StatusOK,
		} {
			response, err := http.Get("http://" + server.Addr().String() + path)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			equal(t, path, response.StatusCode, want)
		}
		http.DefaultClient.CloseIdleConnections()
		stop()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	}
}
