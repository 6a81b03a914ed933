//! The options of `repart`.

use std::path::{Path, PathBuf};

use ::slipway::disk::dissect::Policy;
use ::slipway::out::json::Mode;
use ::slipway::repart::model::{AppendFstab, Empty, JoinSignature, Seed};
use argh::{ArgsInfo, FromArgs};

use super::{keys, value};
use crate::cli;

/// Grow and add partitions to a disk, and build disk images.
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("-h", "--help"))]
pub(super) struct Args {
    /// accepted; there is no pager
    #[argh(switch)]
    #[expect(dead_code, reason = "accepted as the peer does; we never start one")]
    no_pager: bool,
    /// print the table without heading
    #[argh(switch)]
    pub(super) no_legend: bool,
    /// change nothing (default: yes)
    #[argh(option, arg_name = "BOOL", from_str_fn(cli::boolean))]
    pub(super) dry_run: Option<bool>,
    /// what to do with a disk that has no table or a foreign one: refuse, allow, require, force,
    /// create
    #[argh(option, arg_name = "MODE", from_str_fn(value::empty))]
    pub(super) empty: Option<value::Choice<Empty>>,
    /// build without loop devices and mounts
    #[argh(option, arg_name = "BOOL|auto", from_str_fn(value::tristate))]
    pub(super) offline: Option<value::Choice<bool>>,
    /// give blocks back to what stores them (default: yes)
    #[argh(option, arg_name = "BOOL", from_str_fn(cli::boolean))]
    pub(super) discard: Option<bool>,
    /// copy on write for new image files
    #[argh(option, arg_name = "BOOL|auto", from_str_fn(value::tristate))]
    pub(super) cow: Option<value::Choice<bool>>,
    /// logical sector size of the image
    #[argh(option, arg_name = "BYTES", from_str_fn(value::sector_size))]
    pub(super) sector_size: Option<u32>,
    /// what the boundaries of partitions are a multiple of
    #[argh(option, arg_name = "BYTES", from_str_fn(value::grain_size))]
    pub(super) grain_size: Option<u64>,
    /// types that depend on an architecture become those of this one
    #[argh(option, arg_name = "ARCH", from_str_fn(value::architecture))]
    pub(super) architecture: Option<String>,
    /// grow the image file to this size, or auto for the smallest
    #[argh(option, arg_name = "BYTES", from_str_fn(value::size))]
    pub(super) size: Option<value::Size>,
    /// what all UUIDs are derived from, or random (default: the machine ID)
    #[argh(option, arg_name = "UUID", from_str_fn(value::seed))]
    pub(super) seed: Option<Seed>,
    /// write the partitions to files of their own, too
    #[argh(option, arg_name = "BOOL", from_str_fn(cli::boolean))]
    pub(super) split: Option<bool>,
    /// show the disk as it will be before it is changed (default: yes)
    #[argh(option, arg_name = "BOOL", from_str_fn(cli::boolean))]
    pub(super) pretty: Option<bool>,
    /// print JSON: pretty, short or off
    #[argh(option, arg_name = "FORMAT", from_str_fn(cli::json_mode), default = "Mode::Off")]
    pub(super) json: Mode,
    /// first remove the partitions that are marked for this
    #[argh(option, arg_name = "BOOL", from_str_fn(cli::boolean))]
    pub(super) factory_reset: Option<bool>,
    /// tell whether there is something to reset
    #[argh(switch)]
    pub(super) can_factory_reset: bool,
    /// work on the system in this directory
    #[argh(option, arg_name = "PATH", from_str_fn(cli::path))]
    root: Option<PathBuf>,
    /// work on the system in this disk image
    #[argh(option, arg_name = "PATH", from_str_fn(cli::path))]
    image: Option<PathBuf>,
    /// what to mount of the image
    #[argh(option, arg_name = "POLICY", from_str_fn(value::image_policy))]
    pub(super) image_policy: Option<Policy>,
    /// read the definitions from here and nowhere else
    #[argh(option, arg_name = "DIR", from_str_fn(cli::path))]
    pub(super) definitions: Vec<PathBuf>,
    /// tell which disks there are to work on
    #[argh(switch)]
    pub(super) list_devices: bool,
    /// what signs the root hashes of Verity
    #[argh(option, arg_name = "PATH|URI")]
    pub(super) private_key: Option<String>,
    /// what holds the private key: file, provider:NAME, engine:NAME
    #[argh(option, arg_name = "SOURCE", from_str_fn(value::private_key_source))]
    pub(super) private_key_source: Option<String>,
    /// certificate of the private key, in PEM
    #[argh(option, arg_name = "PATH|URI")]
    pub(super) certificate: Option<String>,
    /// what holds the certificate: file, provider:NAME
    #[argh(option, arg_name = "SOURCE", from_str_fn(value::certificate_source))]
    pub(super) certificate_source: Option<String>,
    /// a root hash and its signature: a file with PKCS#7 in DER, or base64:TEXT
    #[argh(option, arg_name = "HASH:SIG", from_str_fn(keys::join_signature))]
    pub(super) join_signature: Vec<JoinSignature>,
    /// what opens encrypted partitions: a file, or a socket that says it
    #[argh(option, arg_name = "PATH", from_str_fn(cli::path))]
    pub(super) key_file: Option<PathBuf>,
    /// TPM that opens encrypted partitions, auto, or list
    #[argh(option, arg_name = "PATH")]
    pub(super) tpm2_device: Option<String>,
    /// public key of a TPM that is elsewhere
    #[argh(option, arg_name = "PATH", from_str_fn(cli::path))]
    #[expect(dead_code, reason = "definitions that need a TPM are refused so far")]
    tpm2_device_key: Option<PathBuf>,
    /// handle of the key that seals
    #[argh(option, arg_name = "HANDLE", from_str_fn(value::tpm2_handle))]
    #[expect(dead_code, reason = "definitions that need a TPM are refused so far")]
    tpm2_seal_key_handle: Option<u32>,
    /// registers the TPM looks at
    #[argh(option, arg_name = "PCR1+PCR2+…", from_str_fn(value::tpm2_pcrs))]
    #[expect(dead_code, reason = "definitions that need a TPM are refused so far")]
    tpm2_pcrs: Option<String>,
    /// key that signs the values of registers
    #[argh(option, arg_name = "PATH", from_str_fn(cli::path))]
    #[expect(dead_code, reason = "definitions that need a TPM are refused so far")]
    tpm2_public_key: Option<PathBuf>,
    /// what the signed values are for
    #[argh(option, arg_name = "STRING")]
    #[expect(dead_code, reason = "definitions that need a TPM are refused so far")]
    tpm2_public_key_policyref: Option<String>,
    /// registers whose values are signed
    #[argh(option, arg_name = "PCR1+PCR2+…", from_str_fn(value::tpm2_pcrs))]
    #[expect(dead_code, reason = "definitions that need a TPM are refused so far")]
    tpm2_public_key_pcrs: Option<String>,
    /// policy of the measured boot
    #[argh(option, arg_name = "PATH", from_str_fn(cli::path))]
    #[expect(dead_code, reason = "definitions that need a TPM are refused so far")]
    tpm2_pcrlock: Option<PathBuf>,
    /// only definitions of these types count
    #[argh(option, arg_name = "TYPE1,TYPE2…", from_str_fn(value::types))]
    pub(super) include_partitions: Vec<value::Types>,
    /// definitions of these types do not count
    #[argh(option, arg_name = "TYPE1,TYPE2…", from_str_fn(value::types))]
    pub(super) exclude_partitions: Vec<value::Types>,
    /// leave room for partitions of these types and do not make them yet
    #[argh(option, arg_name = "TYPE1,TYPE2…", from_str_fn(value::types))]
    pub(super) defer_partitions: Vec<value::Types>,
    /// the same for partitions that are set aside
    #[argh(option, arg_name = "BOOL", from_str_fn(cli::boolean))]
    pub(super) defer_partitions_empty: Option<bool>,
    /// the same for partitions that a factory reset removes
    #[argh(option, arg_name = "BOOL", from_str_fn(cli::boolean))]
    pub(super) defer_partitions_factory_reset: Option<bool>,
    /// where the files that are copied come from
    #[argh(option, short = 's', arg_name = "PATH", from_str_fn(cli::path))]
    pub(super) copy_source: Option<PathBuf>,
    /// take over all partitions of this image or disk
    #[argh(option, arg_name = "IMAGE", from_str_fn(cli::path))]
    pub(super) copy_from: Vec<PathBuf>,
    /// make a discoverable disk image: sysext, confext, portable
    #[argh(option, arg_name = "TYPE", from_str_fn(value::ddi))]
    pub(super) make_ddi: Option<String>,
    /// what becomes of an fstab that is there: no, auto, replace
    #[argh(option, arg_name = "MODE", from_str_fn(value::append_fstab))]
    pub(super) append_fstab: Option<AppendFstab>,
    /// write an fstab
    #[argh(option, arg_name = "PATH", from_str_fn(cli::path))]
    pub(super) generate_fstab: Option<PathBuf>,
    /// write a crypttab
    #[argh(option, arg_name = "PATH", from_str_fn(cli::path))]
    pub(super) generate_crypttab: Option<PathBuf>,
    /// add a boot catalogue for optical media
    #[argh(option, arg_name = "BOOL", from_str_fn(cli::boolean))]
    pub(super) el_torito: Option<bool>,
    /// system identifier of the catalogue
    #[argh(option, arg_name = "STRING", from_str_fn(value::system))]
    pub(super) el_torito_system: Option<String>,
    /// volume identifier of the catalogue
    #[argh(option, arg_name = "STRING", from_str_fn(value::volume))]
    pub(super) el_torito_volume: Option<String>,
    /// publisher of the catalogue
    #[argh(option, arg_name = "STRING", from_str_fn(value::publisher))]
    pub(super) el_torito_publisher: Option<String>,
    /// block device or image file; - for none
    #[argh(positional, arg_name = "DEVICE", from_str_fn(cli::path))]
    pub(super) devices: Vec<PathBuf>,
}

/// An empty path means none.
fn given(path: Option<&PathBuf>) -> Option<&Path> {
    path.map(PathBuf::as_path).filter(|path| !path.as_os_str().is_empty())
}

impl Args {
    /// `--root=`; the root directory itself is none.
    pub(super) fn root(&self) -> Option<&Path> {
        given(self.root.as_ref()).filter(|path| *path != Path::new("/"))
    }

    /// `--image=`.
    pub(super) fn image(&self) -> Option<&Path> {
        given(self.image.as_ref())
    }

    /// `--root=` was given, whatever it is.
    pub(super) fn has_root(&self) -> bool {
        given(self.root.as_ref()).is_some()
    }
}
