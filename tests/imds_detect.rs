//! From the strings of the firmware to the endpoint and the units: every identity of the vectors,
//! every row against the peer's table, every place where an administrator can say otherwise.
#![cfg(feature = "imds")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a failed look-up is a failed test"
)]

#[path = "common/imds_vectors.rs"]
mod imds_vectors;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use imds_vectors::{CLOUDS, vector};
use serde_json::{Value, json};
use slipway::ctx::Ctx;
use slipway::format::smbios::Strings;
use slipway::fs::Files;
use slipway::imds::{
    Endpoint, Failure, Reply, Request, Source, generator, identity, import, normal, providers,
};

/// A machine in a directory.
struct Machine {
    dir: tempfile::TempDir,
    ctx: Ctx,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        let ctx = Ctx::host([]).with_root(dir.path()).with_kernel(at("proc"), at("sys"));
        Self { dir, ctx: ctx.with_env("SYSTEMD_PROC_CMDLINE", "") }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn put(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    /// A string of the firmware, as the kernel shows it.
    fn dmi(self, name: &str, value: &str) -> Self {
        self.put(&format!("sys/class/dmi/id/{name}"), format!("{value}\n"))
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.ctx = self.ctx.with_env(name, value);
        self
    }

    fn line(self, line: &str) -> Self {
        self.env("SYSTEMD_PROC_CMDLINE", line)
    }

    fn strict(self) -> Self {
        self.env("SLIPWAY_STRICT_COMPAT", "1")
    }

    fn endpoint(&self) -> Option<Endpoint> {
        providers::lookup(&self.ctx).unwrap()
    }

    fn vendor(&self) -> Option<String> {
        self.endpoint().and_then(|endpoint| endpoint.vendor)
    }
}

/// What QEMU 7.2's machine says without arguments, changed by those of a row.
fn strings(arguments: &Value) -> Strings {
    let text = |text: &str| Some(text.to_owned());
    let product = || text("Standard PC (i440FX + PIIX, 1996)");
    let mut strings = Strings {
        bios: [text("SeaBIOS"), text("1.16.2-debian-1.16.2-1"), text("04/01/2014"), None, None],
        product: [text("QEMU"), product(), text("pc-i440fx-7.2")],
        chassis: [text("QEMU"), text("1"), text("pc-i440fx-7.2")],
        product_more: [text(""), text("")],
        ..Strings::default()
    };
    strings.bios[3] = text("0.0");
    for argument in arguments.as_array().unwrap() {
        let mut pairs = argument.as_str().unwrap().split(',').map(|p| p.split_once('=').unwrap());
        let kind = pairs.next().unwrap().1;
        match kind {
            "0" => strings.bios = [text(""), text(""), text(""), text("0.0"), None],
            "2" => strings.board = [text("QEMU"), product(), text("pc-i440fx-7.2")],
            _ => {}
        }
        for (key, value) in pairs {
            *match (kind, key) {
                ("0", "vendor") => &mut strings.bios[0],
                ("0", "version") => &mut strings.bios[1],
                ("1", "manufacturer") => &mut strings.product[0],
                ("1", "product") => &mut strings.product[1],
                ("1", "version") => &mut strings.product[2],
                ("1", "serial") => &mut strings.product_serial,
                ("1", "uuid") => &mut strings.product_uuid,
                ("1", "family") => &mut strings.product_more[1],
                ("2", "manufacturer") => &mut strings.board[0],
                ("2", "product") => &mut strings.board[1],
                ("3", "manufacturer") => &mut strings.chassis[0],
                ("3", "asset") => &mut strings.chassis_asset_tag,
                ("2", "asset") => continue,
                other => panic!("{other:?}"),
            } = text(value);
        }
    }
    strings
}

fn machine(strings: &Strings) -> Machine {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    Machine::new()
        .dmi("modalias", &strings.modalias())
        .dmi("chassis_asset_tag", &text(&strings.chassis_asset_tag))
        .dmi("product_serial", &text(&strings.product_serial))
        .dmi("product_uuid", &text(&strings.product_uuid))
}

#[test]
fn every_identity_of_the_vectors_is_recognized() {
    let vectors = vector("smbios.json");
    for row in vectors["positive"].as_array().unwrap() {
        let strings = strings(&row["qemu"]);
        assert_eq!(strings.modalias(), row["sysfs_modalias"].as_str().unwrap());
        let machine = machine(&strings);
        let identity = identity::read(&machine.ctx).unwrap().unwrap();
        assert_eq!(identity.names().last().unwrap(), row["hwdb_query"].as_str().unwrap());
        assert_eq!(machine.vendor().as_deref(), row["vendor"].as_str());
        assert_eq!(machine.strict().vendor().as_deref(), row["vendor"].as_str());
    }
}

#[test]
fn identities_the_peer_misses_are_recognized_and_strictly_missed_defect_19() {
    let vectors = vector("smbios.json");
    let expected = [
        ("ec2-xen-generation", Some("amazon-ec2")),
        ("gce-serial-only", Some("google-gcp")),
        ("azure-tag-trailing-space", Some("microsoft-azure")),
        ("vultr-system-vendor-only", Some("vultr")),
        ("hetzner-system-vendor-only", Some("hetzner-cloud")),
        ("plain-qemu", None),
    ];
    let rows = vectors["negative"].as_array().unwrap();
    assert_eq!(rows.len(), expected.len());
    for (row, (name, vendor)) in rows.iter().zip(expected) {
        assert_eq!(row["name"], name);
        let machine = machine(&strings(&row["qemu"]));
        assert_eq!(machine.vendor().as_deref(), vendor, "{name}");
        // Blanks at the end of the tag are the exception: udev strips them too.
        let strict = vendor.filter(|_| name == "azure-tag-trailing-space");
        assert_eq!(machine.strict().vendor().as_deref(), strict, "{name}");
    }
}

#[test]
fn a_uuid_or_serial_alone_tells_on_the_right_hypervisor_only() {
    for (arguments, vendor) in [
        (json!(["type=1,manufacturer=Xen,uuid=ec2e1916-9099-7caf-fd21-012345abcdef"]), true),
        (json!(["type=1,manufacturer=Xen,uuid=EC2E1916-9099-7caf-fd21-012345abcdef"]), true),
        (json!(["type=1,manufacturer=Xen,uuid=16192eec-9099-7caf-fd21-012345abcdef"]), true),
        (json!(["type=1,manufacturer=Xen,uuid=1619ec2e-9099-7caf-fd21-012345abcdef"]), false),
        (json!(["type=1,manufacturer=QEMU,uuid=ec2e1916-9099-7caf-fd21-012345abcdef"]), false),
    ] {
        let found = machine(&strings(&arguments)).vendor();
        assert_eq!(found.as_deref(), vendor.then_some("amazon-ec2"), "{arguments}");
    }
    let gce = machine(&strings(&json!(["type=1,product=x,serial=GoogleCloud-01"])));
    assert_eq!(gce.vendor().as_deref(), Some("google-gcp"));
    let other = machine(&strings(&json!(["type=1,product=x,serial=NoGoogleCloud-01"])));
    assert_eq!(other.vendor(), None);
}

#[test]
fn further_clouds_are_recognized_and_marked_as_ours() {
    let vectors = vector("smbios.json");
    let mut count = 0;
    for row in vectors["further_clouds_from_cloud_init_ds_identify"].as_array().unwrap() {
        let vendor = row["vendor"].as_str().unwrap();
        // Serial console or disks: there is nobody to ask over HTTP.
        let is_known = !matches!(vendor, "cloudsigma" | "smartos" | "nocloud");
        for (field, key) in [
            ("sys_vendor", "type=1,manufacturer="),
            ("product_name", "type=1,product="),
            ("chassis_asset_tag", "type=3,asset="),
            ("product_serial", "type=1,serial="),
        ] {
            let values = match &row[field] {
                Value::Array(values) => values.clone(),
                Value::String(_) => vec![row[field].clone()],
                _ => Vec::new(),
            };
            for value in values {
                let value = value.as_str().unwrap().replace('*', "Xyz1");
                let machine = machine(&strings(&json!([format!("{key}{value}")])));
                let endpoint = machine.endpoint();
                assert_eq!(endpoint.is_some(), is_known, "{value}");
                if let Some(endpoint) = endpoint {
                    assert_eq!(endpoint.vendor.as_deref(), Some(vendor));
                    assert!(endpoint.traits.is_extension && endpoint.data_url.is_some());
                    count += 1;
                }
                assert_eq!(machine.strict().vendor(), None, "{value}");
            }
        }
    }
    assert!(count >= 17, "{count}");
}

/// An endpoint in the words of the fixtures' `config`.
fn config(endpoint: &Endpoint) -> Value {
    let known = endpoint.well_known.iter();
    let known: serde_json::Map<String, Value> =
        known.map(|(name, key)| (name.name().to_owned(), key.as_str().into())).collect();
    json!({
        "vendor": endpoint.vendor,
        "data_url": endpoint.data_url,
        "data_url_suffix": endpoint.data_url_suffix,
        "token_url": endpoint.token_url,
        "refresh_header_name": endpoint.refresh_header_name,
        "token_header_name": endpoint.token_header_name,
        "extra_headers": endpoint.extra_headers,
        "address_ipv4": endpoint.address_ipv4.map(|address| address.to_string()),
        "address_ipv6": endpoint.address_ipv6.map(|address| address.to_string()),
        "well_known": known,
    })
}

/// What differs from the peer's table by default: defects 12 and 15.
const MENDED: [(&str, &str, &str); 6] = [
    ("alibaba-ecs", "/address_ipv6", "fd00:100::100:200"),
    ("google-gcp", "/address_ipv6", "fd20:ce::254"),
    ("hetzner-cloud", "/well_known/userdata", "/../userdata"),
    ("oracle-cloud-oci", "/well_known/userdata-base64", "/instance/metadata/user_data"),
    ("scaleway", "/well_known/userdata", "/user_data/cloud-init"),
    ("scaleway", "/well_known/userdata-base", "/user_data"),
];

#[test]
fn rows_are_the_peers_in_strict_mode_and_mended_by_default_defect_12() {
    for cloud in CLOUDS {
        let fixture = vector(&format!("{cloud}.json"));
        let mut expected = fixture["config"].clone();
        expected.as_object_mut().unwrap().remove("hwdb_match");
        let machine = machine(&strings(&fixture["smbios"]["qemu"]));
        let ours = machine.endpoint().unwrap();
        assert_eq!(Some(&ours), providers::builtin(cloud).as_ref());
        let strict = machine.strict().endpoint().unwrap();
        assert_eq!(config(&strict), expected, "{cloud}");
        assert_eq!(strict.traits, ours.traits);
        for (_, place, value) in MENDED.iter().filter(|(name, ..)| *name == cloud) {
            let (parent, name) = place.rsplit_once('/').unwrap();
            expected.pointer_mut(parent).unwrap()[name] = json!(value);
        }
        assert_eq!(config(&ours), expected, "{cloud}");
        assert!(!ours.traits.is_extension);
    }
}

#[test]
fn a_machine_without_udev_and_without_strings_is_recognized_by_its_tables_defect_24() {
    let vectors = fs::read("tests/vectors/smbios/qemu.json").unwrap();
    let vectors: Value = serde_json::from_slice(&vectors).unwrap();
    for (row, vendor) in vectors.as_array().unwrap().iter().zip([
        Some("amazon-ec2"),
        Some("microsoft-azure"),
        Some("amazon-ec2"),
        None,
    ]) {
        use base64::Engine as _;
        let bytes = |name: &str| {
            base64::engine::general_purpose::STANDARD.decode(row[name].as_str().unwrap()).unwrap()
        };
        let machine = Machine::new()
            .put("sys/firmware/dmi/tables/smbios_entry_point", bytes("entry_point"))
            .put("sys/firmware/dmi/tables/DMI", bytes("table"));
        assert_eq!(machine.vendor().as_deref(), vendor, "{}", row["name"]);
    }
    assert_eq!(identity::read(&Machine::new().ctx).unwrap(), None);
}

#[test]
fn the_kernel_command_line_names_a_cloud_where_the_firmware_does_not() {
    for (line, vendor) in [
        ("quiet vultr", Some("vultr")),
        ("ignition.platform.id=aws quiet", Some("amazon-ec2")),
        ("coreos.platform.id=digitalocean", Some("digitalocean")),
        ("vultrx xvultr=1", None),
    ] {
        assert_eq!(Machine::new().line(line).vendor().as_deref(), vendor, "{line}");
        let other = machine(&strings(&json!([]))).line(line);
        assert_eq!(other.vendor().as_deref(), vendor, "{line}");
        assert_eq!(other.strict().vendor(), None, "{line}");
    }
}

#[test]
fn a_container_has_no_cloud_unless_somebody_insists() {
    let inside = || {
        let row = &vector("smbios.json")["positive"][0];
        let machine = machine(&strings(&row["qemu"]));
        machine.put("run/systemd/container", "lxc\n")
    };
    assert_eq!(inside().vendor(), None);
    assert_eq!(inside().line("systemd.imds=1").vendor().as_deref(), Some("alibaba-ecs"));
    // The kernel's line is the host's; the container's is that of its first process.
    let mut machine =
        inside().put("proc/cmdline", "systemd.imds=1\n").put("proc/1/cmdline", "init\0");
    machine.ctx = machine.ctx.without_env("SYSTEMD_PROC_CMDLINE");
    assert_eq!(machine.vendor(), None);
    let machine = machine.put("proc/1/cmdline", "init\0systemd.imds=1\0");
    assert_eq!(machine.vendor().as_deref(), Some("alibaba-ecs"));
}

fn acme() -> Machine {
    machine(&strings(&json!(["type=1,manufacturer=Acme", "type=3,asset=A 1  "])))
}

const ACME: &str = "dmi:*:svnAcme:*:catA 1:*\n IMDS_VENDOR=acme\n IMDS_DATA_URL=http://acme\n";

#[test]
fn udev_then_compiled_then_text_then_our_table() {
    let compiled = include_bytes!("vectors/hwdb/hwdb.bin");
    let udev = "E:IMDS_VENDOR=by-udev\nE:IMDS_DATA_URL=http://u\nE:IMDS_EXTRA_HEADER=A: 1\n\
                E:IMDS_EXTRA_HEADER64=B: 2\nE:IMDS_ADDRESS_IPV4=nonsense\nI:1\nE:ID_VENDOR=x\n";
    // The vector's database knows nothing of metadata: the text comes behind it.
    let machine =
        acme().put("usr/lib/udev/hwdb.bin", compiled).put("etc/udev/hwdb.d/10-acme.hwdb", ACME);
    assert_eq!(machine.vendor().as_deref(), Some("acme"));
    let endpoint = machine.put("run/udev/data/+dmi:id", udev).endpoint().unwrap();
    assert_eq!(endpoint.vendor.as_deref(), Some("by-udev"));
    assert_eq!(endpoint.extra_headers, ["A: 1", "B: 2"]);
    assert_eq!(endpoint.address_ipv4, None);
    // An older udev says nothing of metadata.
    let machine = acme()
        .put("run/udev/data/+dmi:id", "E:ID_VENDOR=x\n")
        .put("run/udev/hwdb.d/10-acme.hwdb", ACME);
    assert_eq!(machine.vendor().as_deref(), Some("acme"));
    // A damaged database is told and passed by.
    let machine = acme()
        .put("etc/udev/hwdb.bin", &compiled[..300])
        .put("usr/lib/udev/hwdb.d/10-acme.hwdb", ACME);
    assert_eq!(machine.vendor().as_deref(), Some("acme"));
}

#[test]
fn text_files_override_each_other_and_keys_of_our_rows() {
    let row = &vector("smbios.json")["positive"][1];
    let ec2 = || machine(&strings(&row["qemu"]));
    let record = |key: &str| format!("dmi:bvnAmazonEC2:*\n IMDS_KEY_HOSTNAME={key}\n");
    let hostname = |machine: Machine| {
        let endpoint = machine.endpoint().unwrap();
        assert_eq!(endpoint.vendor.as_deref(), Some("amazon-ec2"));
        endpoint.well_known[&slipway::imds::WellKnown::Hostname].clone()
    };
    let two = || {
        ec2()
            .put("usr/lib/udev/hwdb.d/50-a.hwdb", record("/a"))
            .put("usr/lib/udev/hwdb.d/60-b.hwdb", record("/b") + "\n" + &record("/later"))
    };
    assert_eq!(hostname(ec2()), "/meta-data/hostname");
    assert_eq!(hostname(two()), "/later");
    // A name in an earlier directory replaces the file; a mask takes it away.
    assert_eq!(hostname(two().put("etc/udev/hwdb.d/60-b.hwdb", record("/c"))), "/c");
    let machine = two().put("etc/udev/hwdb.d/60-b.hwdb", "");
    assert_eq!(hostname(machine), "/a");
    // Another vendor's entry is not mixed with our row.
    let other = "dmi:bvnAmazonEC2:*\n IMDS_VENDOR=clone\n IMDS_DATA_URL=http://clone\n";
    let endpoint = ec2().put("etc/udev/hwdb.d/50-x.hwdb", other).endpoint().unwrap();
    assert_eq!((endpoint.token_url, endpoint.well_known.len()), (None, 0));
}

#[test]
fn a_mask_for_the_peers_file_hides_our_table() {
    let row = &vector("smbios.json")["positive"][1];
    let machine = machine(&strings(&row["qemu"])).put("etc/udev/hwdb.d/50-a.hwdb", ACME);
    symlink("/dev/null", machine.at("etc/udev/hwdb.d/40-imds.hwdb")).unwrap();
    assert_eq!(machine.vendor(), None);
}

#[test]
fn our_properties_are_understood_from_everywhere() {
    let text = "dmi:*:svnAcme:*\n IMDS_VENDOR=acme\n IMDS_DATA_URL=http://acme\n \
                IMDS_KEY_REGION=/wrong\n SLIPWAY_IMDS_KEY_REGION=/right\n \
                SLIPWAY_IMDS_RETRY_STATUSES=404 x 410\n SLIPWAY_IMDS_RETRY_WINDOW_SEC=70\n \
                SLIPWAY_IMDS_LOW_PORT_PATHS=/a /b\n SLIPWAY_IMDS_TOKEN_LIFETIME_MAX_SEC=300\n \
                SLIPWAY_IMDS_REQUESTS_PER_SECOND=0\n SLIPWAY_IMDS_RESOLVE=192.0.2.1 ::1\n \
                SLIPWAY_IMDS_VALUE_INSTANCE_ID=/id | trim\n";
    let machine = acme().put("etc/udev/hwdb.d/50-acme.hwdb", text);
    let endpoint = machine.endpoint().unwrap();
    let traits = &endpoint.traits;
    assert_eq!(config(&endpoint)["well_known"], json!({"region": "/right"}));
    assert_eq!(traits.retry_statuses, [404, 410]);
    assert_eq!(traits.retry_window.unwrap().as_secs(), 70);
    assert_eq!(traits.low_port_paths, ["/a", "/b"]);
    assert_eq!(traits.token_lifetime_max.unwrap().as_secs(), 300);
    assert_eq!((traits.requests_per_second, traits.resolve.len()), (None, 2));
    assert_eq!(traits.recipes["instance-id"], "/id | trim");
    let strict = machine.strict().endpoint().unwrap();
    assert_eq!(config(&strict)["well_known"], json!({"region": "/wrong"}));
    assert_eq!(strict.traits, *traits);
}

#[test]
fn the_peers_own_entry_is_mended_and_a_changed_one_is_left_alone() {
    let entry = |key: &str, url: &str| {
        let text = format!(
            "E:IMDS_VENDOR=hetzner-cloud\nE:IMDS_DATA_URL={url}\nE:IMDS_KEY_USERDATA={key}\n"
        );
        let machine = acme().put("run/udev/data/+dmi:id", text);
        let endpoint = machine.endpoint().unwrap();
        let known = config(&endpoint)["well_known"]["userdata"].clone();
        let strict = machine.strict().endpoint().unwrap();
        assert_eq!(config(&strict)["well_known"]["userdata"], key);
        assert!(strict.traits.recipes.contains_key("ssh-keys"));
        known
    };
    let url = "http://169.254.169.254/hetzner/v1/metadata";
    assert_eq!(entry("/userdata", url), "/../userdata");
    assert_eq!(entry("/mine", url), "/mine");
    assert_eq!(entry("/userdata", "http://192.0.2.1"), "/userdata");
}

/// What the generator leaves in a directory, links with their targets.
fn tree(root: &Path) -> Vec<String> {
    fn walk(root: &Path, dir: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            if path.is_symlink() {
                let target = fs::read_link(&path).unwrap();
                let unit = path.file_name().unwrap();
                assert_eq!(target, Path::new("/usr/lib/systemd/system").join(unit));
                found.push(name);
            } else if path.is_dir() {
                walk(root, &path, found);
            } else {
                let text = fs::read_to_string(&path).unwrap();
                assert!(text.ends_with("\nAfter=sys-devices-virtual-dmi-id.device\n"), "{text}");
                found.push(name);
            }
        }
    }
    let mut found = Vec::new();
    walk(root, root, &mut found);
    found.sort();
    found
}

fn generated(machine: &Machine) -> Vec<String> {
    let out = tempfile::tempdir().unwrap();
    let plan = generator::plan(&generator::decide(&machine.ctx).unwrap());
    // A second time changes nothing.
    for _ in 0..2 {
        generator::apply(&machine.ctx, &Files::default(), out.path(), &plan).unwrap();
    }
    let mut planned: Vec<String> =
        plan.paths().iter().map(|path| path.display().to_string()).collect();
    planned.sort();
    let tree = tree(out.path());
    assert_eq!(tree, planned);
    tree
}

#[test]
fn the_generator_enables_what_the_peers_does() {
    let cloud = || machine(&strings(&vector("smbios.json")["positive"][0]["qemu"]));
    let plain = || machine(&strings(&json!([])));
    let vectors = vector("generator.json");
    for case in vectors["cases"].as_array().unwrap() {
        let container = || plain().put("run/systemd/container", "lxc\n");
        let machines = match case["where"].as_str().unwrap() {
            "container" => vec![container()],
            "vm, SMBIOS of one of the nine" => vec![cloud()],
            "vm, other SMBIOS" => vec![plain()],
            "anywhere" => vec![plain(), cloud(), container(), Machine::new()],
            "initrd" => vec![plain().env("SYSTEMD_IN_INITRD", "1")],
            "host system, container" => vec![container()],
            other => panic!("{other}"),
        };
        let mut expected: Vec<&str> =
            case["result"].as_array().unwrap().iter().map(|path| path.as_str().unwrap()).collect();
        expected.sort_unstable();
        for machine in machines {
            let machine = machine.line(case["cmdline"].as_str().unwrap());
            assert_eq!(generated(&machine), expected, "{case}");
        }
    }
}

#[test]
fn a_link_to_something_else_is_refused() {
    let out = tempfile::tempdir().unwrap();
    fs::create_dir(out.path().join("sockets.target.wants")).unwrap();
    let link = out.path().join("sockets.target.wants/systemd-imdsd.socket");
    symlink("/elsewhere", &link).unwrap();
    let machine = Machine::new().line("systemd.imds=1");
    let plan = generator::plan(&generator::decide(&machine.ctx).unwrap());
    let err = generator::apply(&machine.ctx, &Files::default(), out.path(), &plan).unwrap_err();
    assert_eq!(
        err.to_string(),
        format!("Failed to create symlink {}: File exists", link.display())
    );
}

fn run(line: &str, args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_slipway"))
        .arg("systemd-imds-generator")
        .args(args)
        .env_clear()
        .env("SYSTEMD_PROC_CMDLINE", line)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_command_takes_one_or_three_directories_or_prints() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (a, b, c) = (at("a"), at("b"), at("c"));
    let words = "This program takes one or three arguments.\n";
    for args in [&[][..], &["a", "b"], &["a", "b", "c", "d"]] {
        assert_eq!(run("", args), (Some(234), String::new(), words.to_owned()));
    }
    assert_eq!(run("systemd.imds=1", &[&a, &b, &c]).0, Some(0));
    assert!(!Path::new(&a).exists() && !Path::new(&c).exists());
    assert_eq!(tree(Path::new(&b)).len(), 5);
    assert_eq!(run("systemd.imds=1 systemd.imds.network=off", &[&a]).0, Some(0));
    assert_eq!(tree(Path::new(&a)).len(), 3);
    assert_eq!(run("systemd.imds=no", &["--print"]), (Some(1), String::new(), String::new()));
    let (status, units, _) = run("systemd.imds=yes", &["--print"]);
    assert_eq!(status, Some(0));
    assert_eq!(
        units,
        "systemd-imds-early-network.service\nsystemd-imdsd.socket\nsystemd-imds-metrics.socket\n"
    );
    assert_eq!(run("", &["--print", "x"]).0, Some(234));
}

/// A service, which tells where the cloud is asked and not how its answers are understood.
struct Service;

impl Source for Service {
    fn endpoint(&mut self) -> Result<Endpoint, Failure> {
        Ok(Endpoint {
            vendor: Some("my-cloud".into()),
            data_url: Some("http://192.0.2.1/v1".into()),
            ..Endpoint::default()
        })
    }

    fn get(&mut self, request: &Request) -> Result<Reply, Failure> {
        const KEYS: &str = "ssh-ed25519 \
            AAAAC3NzaC1lZDI1NTE5AAAAIM8dwPhJ99X91/Iwr5wPyk+rbT0FMoN4dGXBAVZ11348 one\n";
        match request.key.as_deref() {
            Some("/where") => Ok(Reply { data: b"eu/eu-1a".to_vec(), interface: None }),
            Some("/keys") => Ok(Reply { data: KEYS.into(), interface: None }),
            _ => Err(Failure::KeyNotFound),
        }
    }
}

#[test]
fn recipes_of_the_host_count_where_a_service_is_asked_too() {
    let record = "dmi:*:svnMyCloud:*\n IMDS_VENDOR=my-cloud\n IMDS_DATA_URL=http://192.0.2.1/v1\n \
                  SLIPWAY_IMDS_VALUE_ZONE=/where | last-part\n \
                  SLIPWAY_IMDS_VALUE_SSH_KEYS=/keys | lines\n";
    let machine = Machine::new()
        .dmi("modalias", "dmi:bvnX:svnMyCloud:pnY:")
        .put("etc/udev/hwdb.d/50-my.hwdb", record);
    let zone = |ctx: &Ctx| normal::value(ctx, &mut Service, "zone");
    assert_eq!(zone(&machine.ctx), Ok(Some("eu-1a".to_owned())));
    let keys = import::provider_keys(&machine.ctx)(&mut Service).unwrap();
    assert_eq!(keys.map(|keys| keys.len()), Some(1));

    // Not those of another cloud, and not in the old ways.
    let other = Machine::new()
        .dmi("modalias", "dmi:bvnX:svnMyCloud:pnY:")
        .put("etc/udev/hwdb.d/50-my.hwdb", record.replace("/v1", "/v2"));
    assert_eq!(zone(&other.ctx), Ok(None));
    assert_eq!(import::provider_keys(&other.ctx)(&mut Service), Ok(None));
    assert_eq!(zone(&machine.strict().ctx), Ok(None));
}
