//! Partition types by name: the Discoverable Partitions Specification (UAPI.2).
//!
//! Kept as numbers per architecture, because the names of the rest follow a rule: `root-ARCH`,
//! `usr-ARCH`, each with `-verity` and `-verity-sig`. `root` and `usr` alone mean the architecture
//! this program was built for, `root-secondary` the other one its processors can run.

use uuid::Uuid;

use crate::format::pattern::parse_uuid;

/// `linux-generic`: what partitions are matched by if nothing else is said.
pub const LINUX_GENERIC: Uuid = Uuid::from_u128(0x0fc6_3daf_8483_4772_8e79_3d69_d847_7de4);

/// What a type is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Designator {
    /// A root or `/usr` file system.
    System,
    /// The Verity data of one.
    SystemVerity,
    /// The signature of one's root hash.
    SystemVeritySig,
    /// EFI system partition.
    Esp,
    /// Extended boot loader partition.
    Xbootldr,
    /// Swap space.
    Swap,
    /// `/home`, `/srv`, `/var` or `/var/tmp`.
    Data,
    /// None of these.
    Other,
}

impl Designator {
    /// True if the no-auto bit means something.
    pub fn knows_no_auto(self) -> bool {
        matches!(self, Self::System | Self::SystemVerity | Self::Xbootldr | Self::Swap | Self::Data)
    }

    /// True if the read-only bit means something.
    pub fn knows_read_only(self) -> bool {
        matches!(
            self,
            Self::System | Self::SystemVerity | Self::SystemVeritySig | Self::Xbootldr | Self::Data
        )
    }

    /// True if the grow-file-system bit means something.
    pub fn knows_grow_fs(self) -> bool {
        matches!(self, Self::System | Self::Xbootldr | Self::Data)
    }

    /// True for signatures of Verity root hashes.
    pub fn is_verity_sig(self) -> bool {
        matches!(self, Self::SystemVeritySig)
    }
}

/// Reads a type: a GUID with or without dashes in any case, or a name in lower case.
pub fn parse(text: &str) -> Option<Uuid> {
    by_name(text).or_else(|| parse_uuid(text))
}

/// The type with this name.
pub fn by_name(name: &str) -> Option<Uuid> {
    if let Some((_, id, _)) = OTHERS.iter().find(|row| row.0 == name) {
        return Some(Uuid::from_u128(*id));
    }
    let (index, arch) = KINDS.iter().enumerate().find_map(|(index, (prefix, suffix, _))| {
        // `root-x86-verity` is no architecture called `x86-verity`.
        let arch = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
        ids_of(arch).map(|ids| (index, ids))
    })?;
    arch.get(index).map(|id| Uuid::from_u128(*id))
}

/// The usual name of a type; none if it is not in the specification.
pub fn name(type_uuid: Uuid) -> Option<String> {
    let id = type_uuid.as_u128();
    if let Some((name, _, _)) = OTHERS.iter().find(|row| row.1 == id) {
        return Some((*name).to_owned());
    }
    let (arch, (prefix, suffix, _)) = find(id)?;
    Some(format!("{prefix}-{arch}{suffix}"))
}

/// The label of a partition if nothing else gives it one.
pub fn default_label(type_uuid: Uuid) -> String {
    name(type_uuid).unwrap_or_else(|| "linux".to_owned())
}

/// The type that is to another architecture (by its usual name) what this one is to its own. Types
/// that are the same everywhere stay, and so do all if the architecture has no types.
pub fn for_architecture(type_uuid: Uuid, arch: &str) -> Uuid {
    let id = type_uuid.as_u128();
    let kind = ARCHES.iter().find_map(|(_, ids)| ids.iter().position(|known| *known == id));
    let wanted = ARCHES.iter().find(|(names, _)| names.first() == Some(&arch));
    kind.and_then(|kind| wanted?.1.get(kind)).map_or(type_uuid, |id| Uuid::from_u128(*id))
}

/// The word for what a file system is for, whatever its architecture; none for types that hold no
/// file system which has a usual place.
pub fn purpose(type_uuid: Uuid) -> Option<&'static str> {
    let id = type_uuid.as_u128();
    if let Some((_, (prefix, suffix, _))) = find(id) {
        return Some(prefix).filter(|_| suffix.is_empty());
    }
    let (name, _, kind) = OTHERS.iter().find(|row| row.1 == id)?;
    matches!(kind, Designator::Esp | Designator::Xbootldr | Designator::Data).then_some(*name)
}

/// Where file systems of this type are usually mounted; empty where there is no such place.
pub fn mount_points(type_uuid: Uuid) -> &'static [&'static str] {
    match purpose(type_uuid) {
        Some("root") => &["/"],
        Some("usr") => &["/usr"],
        Some("home") => &["/home"],
        Some("srv") => &["/srv"],
        Some("var") => &["/var"],
        Some("tmp") => &["/var/tmp"],
        Some("esp") => &["/efi", "/boot"],
        Some("xbootldr") => &["/boot"],
        _ => &[],
    }
}

/// What a type is for.
pub fn designator(type_uuid: Uuid) -> Designator {
    let id = type_uuid.as_u128();
    let other = OTHERS.iter().find(|row| row.1 == id).map(|row| row.2);
    other.or_else(|| find(id).map(|(_, kind)| kind.2)).unwrap_or(Designator::Other)
}

/// All names, aliases and short names included.
pub fn names() -> impl Iterator<Item = String> {
    let names = ARCHES.iter().flat_map(|(names, _)| names.iter().map(|name| format!("-{name}")));
    let arches = names.chain(["".to_owned(), "-secondary".to_owned()]);
    let system = arches
        .filter(|arch| ids_of(arch).is_some())
        .flat_map(|arch| KINDS.map(|(prefix, suffix, _)| format!("{prefix}{arch}{suffix}")));
    system.chain(OTHERS.iter().map(|row| row.0.to_owned()))
}

fn find(id: u128) -> Option<(&'static str, Kind)> {
    ARCHES.iter().find_map(|(names, ids)| {
        let index = ids.iter().position(|known| *known == id)?;
        Some((*names.first()?, *KINDS.get(index)?))
    })
}

/// The types for what follows `root` or `usr`: nothing, `-secondary`, or a dash and a name.
fn ids_of(arch: &str) -> Option<&'static [u128; 6]> {
    let name = match arch {
        "" => NATIVE.0?,
        "-secondary" => NATIVE.1?,
        arch => arch.strip_prefix('-')?,
    };
    ARCHES.iter().find(|(names, _)| names.contains(&name)).map(|(_, ids)| ids)
}

/// This architecture and the other one that runs on the same processors.
const NATIVE: (Option<&str>, Option<&str>) = if cfg!(target_arch = "x86_64") {
    (Some("x86-64"), Some("x86"))
} else if cfg!(target_arch = "x86") {
    (Some("x86"), None)
} else if cfg!(target_arch = "aarch64") {
    (Some("arm64"), Some("arm"))
} else if cfg!(target_arch = "arm") {
    (Some("arm"), None)
} else if cfg!(target_arch = "riscv64") {
    (Some("riscv64"), Some("riscv32"))
} else if cfg!(target_arch = "riscv32") {
    (Some("riscv32"), None)
} else if cfg!(target_arch = "loongarch64") {
    (Some("loongarch64"), None)
} else if cfg!(target_arch = "s390x") {
    (Some("s390x"), None)
} else if cfg!(all(target_arch = "powerpc64", target_endian = "little")) {
    (Some("ppc64-le"), Some("ppc"))
} else if cfg!(target_arch = "powerpc64") {
    (Some("ppc64"), Some("ppc"))
} else {
    (None, None)
};

/// Prefix, suffix, meaning.
type Kind = (&'static str, &'static str, Designator);

/// What there is for each architecture, in the order of the numbers below.
const KINDS: [Kind; 6] = [
    ("root", "", Designator::System),
    ("root", "-verity", Designator::SystemVerity),
    ("root", "-verity-sig", Designator::SystemVeritySig),
    ("usr", "", Designator::System),
    ("usr", "-verity", Designator::SystemVerity),
    ("usr", "-verity-sig", Designator::SystemVeritySig),
];

const OTHERS: [(&str, u128, Designator); 9] = [
    ("esp", 0xc12a_7328_f81f_11d2_ba4b_00a0_c93e_c93b, Designator::Esp),
    ("xbootldr", 0xbc13_c2ff_59e6_4262_a352_b275_fd6f_7172, Designator::Xbootldr),
    ("swap", 0x0657_fd6d_a4ab_43c4_84e5_0933_c84b_4f4f, Designator::Swap),
    ("home", 0x933a_c7e1_2eb4_4f13_b844_0e14_e2ae_f915, Designator::Data),
    ("srv", 0x3b8f_8425_20e0_4f3b_907f_1a25_a76f_98e8, Designator::Data),
    ("var", 0x4d21_b016_b534_45c2_a9fb_5c16_e091_fd2d, Designator::Data),
    ("tmp", 0x7ec6_f557_3bc5_4aca_b293_16ef_5df6_39d1, Designator::Data),
    ("user-home", 0x773f_91ef_66d4_49b5_bd83_d683_bf40_ad16, Designator::Other),
    ("linux-generic", 0x0fc6_3daf_8483_4772_8e79_3d69_d847_7de4, Designator::Other),
];

/// Names of an architecture, the usual one first, and its types.
const ARCHES: [(&[&str], [u128; 6]); 21] = [
    (
        &["alpha"],
        [
            0x6523_f8ae_3eb1_4e2a_a05a_18b6_95ae_656f,
            0xfc56_d9e9_e6e5_4c06_be32_e744_07ce_09a5,
            0xd464_95b7_a053_414f_80f7_700c_9992_1ef8,
            0xe18c_f08c_33ec_4c0d_8246_c6c6_fb3d_a024,
            0x8cce_0d25_c0d0_4a44_bd87_4633_1bf1_df67,
            0x5c6e_1c76_076a_457a_a0fe_f3b4_cd21_ce6e,
        ],
    ),
    (
        &["arc"],
        [
            0xd27f_46ed_2919_4cb8_bd25_9531_f3c1_6534,
            0x24b2_d975_0f97_4521_afa1_cd53_1e42_1b8d,
            0x143a_70ba_cbd3_4f06_919f_6c05_683a_78bc,
            0x7978_a683_6316_4922_bbee_38bf_f5a2_fecc,
            0xfca0_598c_d880_4591_8c16_4eda_05c7_347c,
            0x94f9_a9a1_9971_427a_a400_50cb_297f_0f35,
        ],
    ),
    (
        &["arm", "armv7l"],
        [
            0x69da_d710_2ce4_4e3c_b16c_21a1_d49a_bed3,
            0x7386_cdf2_203c_47a9_a498_f2ec_ce45_a2d6,
            0x42b0_455f_eb11_491d_98d3_5614_5ba9_d037,
            0x7d03_59a3_02b3_4f0a_865c_6544_03e7_0625,
            0xc215_d751_7bcd_4649_be90_6627_490a_4c05,
            0xd7ff_812f_37d1_4902_a810_d76b_a57b_975a,
        ],
    ),
    (
        &["arm64", "aarch64"],
        [
            0xb921_b045_1df0_41c3_af44_4c6f_280d_3fae,
            0xdf33_00ce_d69f_4c92_978c_9bfb_0f38_d820,
            0x6db6_9de6_29f4_4758_a7a5_9621_90f0_0ce3,
            0xb0e0_1050_ee5f_4390_949a_9101_b171_04e9,
            0x6e11_a4e7_fbca_4ded_b9e9_e1a5_12bb_664e,
            0xc23c_e4ff_44bd_4b00_b2d4_b41b_3419_e02a,
        ],
    ),
    (
        &["ia64"],
        [
            0x993d_8d3d_f80e_4225_855a_9daf_8ed7_ea97,
            0x86ed_10d5_b607_45bb_8957_d350_f23d_0571,
            0xe98b_36ee_32ba_4882_9b12_0ce1_4655_f46a,
            0x4301_d2a6_4e3b_4b2a_bb94_9e0b_2c42_25ea,
            0x6a49_1e03_3be7_4545_8e38_8332_0e0e_a880,
            0x8de5_8bc2_2a43_460d_b14e_a76e_4a17_b47f,
        ],
    ),
    (
        &["loongarch64", "loong64"],
        [
            0x7705_5800_792c_4f94_b39a_98c9_1b76_2bb6,
            0xf339_3b22_e9af_4613_a948_9d3b_fbd0_c535,
            0x5afb_67eb_ecc8_4f85_ae8e_ac1e_7c50_e7d0,
            0xe611_c702_575c_4cbe_9a46_434f_a0bf_7e3f,
            0xf46b_2c26_59ae_48f0_9106_c50e_d47f_673d,
            0xb024_f315_d330_444c_8461_44bb_de52_4e99,
        ],
    ),
    (
        &["mips"],
        [
            0xe943_4544_6e2c_47cc_bae2_12d6_deaf_b44c,
            0x7a43_0799_f711_4c7e_8e5b_1d68_5bd4_8607,
            0xbba2_10a2_9c5d_45ee_9e87_ff2c_cbd0_02d0,
            0x773b_2abc_2a99_4398_8bf5_03ba_ac40_d02b,
            0x6e5a_1bc8_d223_49b7_bca8_37a5_fcce_b996,
            0x97ae_158d_f216_497b_8057_f7f9_0577_0f54,
        ],
    ),
    (
        &["mips64"],
        [
            0xd113_af76_80ef_41b4_bdb6_0cff_4d3d_4a25,
            0x5795_36f8_6a33_4055_a95a_df2d_5e2c_42a8,
            0x43ce_94d4_0f3d_4999_8250_b9de_afd9_8e6e,
            0x57e1_3958_7331_4365_8e6e_35ee_ee17_c61b,
            0x81cf_9d90_7458_4df4_8dcf_c8a3_a404_f09b,
            0x0581_6ce2_dd40_4ac6_a61d_37d3_2dc1_ba7d,
        ],
    ),
    (
        &["mips-le", "mipsel"],
        [
            0x37c5_8c8a_d913_4156_a25f_48b1_b64e_07f0,
            0xd7d1_50d2_2a04_4a33_8f12_1665_1205_ff7b,
            0xc919_cc1f_4456_4eff_918c_f75e_9452_5ca5,
            0x0f48_68e9_9952_4706_979f_3ed3_a473_e947,
            0x46b9_8d8d_b55c_4e8f_aab3_37fc_a7f8_0752,
            0x3e23_ca0b_a4bc_4b4e_8087_5ab6_a26a_a8a9,
        ],
    ),
    (
        &["mips64-le", "mips64el"],
        [
            0x700b_da43_7a34_4507_b179_eeb9_3d7a_7ca3,
            0x16b4_17f8_3e06_4f57_8dd2_9b52_32f4_1aa6,
            0x904e_58ef_5c65_4a31_9c57_6af5_fc7c_5de7,
            0xc97c_1f32_ba06_40b4_9f22_2360_61b0_8aa8,
            0x3c3d_61fe_b5f3_414d_bb71_8739_a694_a4ef,
            0xf2c2_c7ee_adcc_4351_b5c6_ee98_16b6_6e16,
        ],
    ),
    (
        &["parisc", "hppa"],
        [
            0x1aac_db3b_5444_4138_bd9e_e5c2_239b_2346,
            0xd212_a430_fbc5_49f9_a983_a7fe_ef2b_8d0e,
            0x15de_6170_65d3_431c_916e_b0dc_d839_3f25,
            0xdc4a_4480_6917_4262_a4ec_db93_8494_9f25,
            0x5843_d618_ec37_48d7_9f12_cea8_e087_68b2,
            0x450d_d7d1_3224_45ec_9cf2_a43a_346d_71ee,
        ],
    ),
    (
        &["ppc"],
        [
            0x1de3_f1ef_fa98_47b5_8dcd_4a86_0a65_4d78,
            0x98cf_e649_1588_46dc_b2f0_add1_4742_4925,
            0x1b31_b5aa_add9_463a_b2ed_bd46_7fc8_57e7,
            0x7d14_fec5_cc71_415d_9d6c_06bf_0b3c_3eaf,
            0xdf76_5d00_270e_49e5_bc75_f47b_b211_8b09,
            0x7007_891d_d371_4a80_86a4_5cb8_75b9_302e,
        ],
    ),
    (
        &["ppc64"],
        [
            0x912a_de1d_a839_4913_8964_a10e_ee08_fbd2,
            0x9225_a9a3_3c19_4d89_b4f6_eeff_88f1_7631,
            0xf5e2_c20c_45b2_4ffa_bce9_2a60_737e_1aaf,
            0x2c97_39e2_f068_46b3_9fd0_01c5_a9af_bcca,
            0xbdb5_28a5_a259_475f_a87d_da53_fa73_6a07,
            0x0b88_8863_d7f8_4d9e_9766_239f_ce4d_58af,
        ],
    ),
    (
        &["ppc64-le", "ppc64le", "ppc64el"],
        [
            0xc31c_45e6_3f39_412e_80fb_4809_c498_0599,
            0x906b_d944_4589_4aae_a4e4_dd98_3917_446a,
            0xd4a2_36e7_e873_4c07_bf1d_bf6c_f7f1_c3c6,
            0x15bb_03af_77e7_4d4a_b12b_c0d0_84f7_491c,
            0xee2b_9983_21e8_4153_86d9_b690_1a54_d1ce,
            0xc8bf_bd1e_268e_4521_8bba_bf31_4c39_9557,
        ],
    ),
    (
        &["riscv32"],
        [
            0x60d5_a7fe_8e7d_435c_b714_3dd8_1621_44e1,
            0xae02_53be_1167_4007_ac68_4392_6c14_c5de,
            0x3a11_2a75_8729_4380_b4cf_764d_7993_4448,
            0xb933_fb22_5c3f_4f91_af90_e2bb_0fa5_0702,
            0xcb1e_e4e3_8cd0_4136_a0a4_aa61_a32e_8730,
            0xc383_6a13_3137_45ba_b583_b16c_50fe_5eb4,
        ],
    ),
    (
        &["riscv64"],
        [
            0x72ec_70a6_cf74_40e6_bd49_4bda_08e8_f224,
            0xb6ed_5582_440b_4209_b8da_5ff7_c419_ea3d,
            0xefe0_f087_ea8d_4469_821a_4c2a_96a8_386a,
            0xbeae_c34b_8442_439b_a40b_9843_81ed_097d,
            0x8f10_56be_9b05_47c4_81d6_be53_128e_5b54,
            0xd2f9_000a_7a18_453f_b5cd_4d32_f77a_7b32,
        ],
    ),
    (
        &["s390"],
        [
            0x08a7_acea_624c_4a20_91e8_6e0f_a67d_23f9,
            0x7ac6_3b47_b25c_463b_8df8_b4a9_4e6c_90e1,
            0x3482_388e_4254_435a_a241_766a_065f_9960,
            0xcd0f_869b_d0fb_4ca0_b141_9ea8_7cc7_8d66,
            0xb663_c618_e7bc_4d6d_90aa_11b7_56bb_1797,
            0x1744_0e4f_a8d0_467f_a46e_3912_ae6e_f2c5,
        ],
    ),
    (
        &["s390x"],
        [
            0x5eea_d9a9_fe09_4a1e_a1d7_520d_0053_1306,
            0xb325_bfbe_c7be_4ab8_8357_139e_652d_2f6b,
            0xc801_87a5_73a3_491a_901a_017c_3fa9_53e9,
            0x8a4f_5770_50aa_4ed3_874a_99b7_10db_6fea,
            0x3174_1cc4_1a2a_4111_a581_e00b_447d_2d06,
            0x3f32_4816_667b_46ae_86ee_9b0c_0c6c_11b4,
        ],
    ),
    (
        &["tilegx"],
        [
            0xc50c_dd70_3862_4cc3_90e1_809a_8c93_ee2c,
            0x9660_61ec_28e4_4b2e_b4a5_1f0a_825a_1d84,
            0xb367_1439_97b0_4a53_90f7_2d5a_8f3a_d47b,
            0x5549_7029_c7c1_44cc_aa39_815e_d155_8630,
            0x2fb4_bf56_07fa_42da_8132_6b13_9f20_26ae,
            0x4ede_75e2_6ccc_4cc8_b9c7_7033_4b08_7510,
        ],
    ),
    (
        &["x86", "i386", "i486", "i586", "i686"],
        [
            0x4447_9540_f297_41b2_9af7_d131_d5f0_458a,
            0xd13c_5d3b_b5d1_422a_b29f_9454_fdc8_9d76,
            0x5996_fc05_109c_48de_808b_23fa_0830_b676,
            0x7525_0d76_8cc6_458e_bd66_bd47_cc81_a812,
            0x8f46_1b0d_14ee_4e81_9aa9_049b_6fb9_7abd,
            0x974a_71c0_de41_43c3_be5d_5c5c_cd1a_d2c0,
        ],
    ),
    (
        &["x86-64", "x86_64", "amd64"],
        [
            0x4f68_bce3_e8cd_4db1_96e7_fbca_f984_b709,
            0x2c73_57ed_ebd2_46d9_aec1_23d4_37ec_2bf5,
            0x4109_2b05_9fc8_4523_994f_2def_0408_b176,
            0x8484_680c_9521_48c6_9c11_b072_0656_f69e,
            0x77ff_5f63_e7b6_4633_acf4_1565_b864_c0e6,
            0xe7bb_33fb_06cf_4e81_8273_e543_b413_e2e2,
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guids_and_names_are_understood() {
        let root = Uuid::from_u128(0x4f68_bce3_e8cd_4db1_96e7_fbca_f984_b709);
        for text in [
            "root-x86-64",
            "root-amd64",
            "4f68bce3-e8cd-4db1-96e7-fbcaf984b709",
            "4F68BCE3E8CD4DB196E7FBCAF984B709",
        ] {
            assert_eq!(parse(text), Some(root), "{text}");
        }
        for text in
            ["", "ROOT-X86-64", "root-", "root--verity", "root-x86-65", "linux", "rootx86-64"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(name(root).as_deref(), Some("root-x86-64"));
        assert_eq!(name(Uuid::nil()), None);
        assert_eq!(by_name("linux-generic"), Some(LINUX_GENERIC));
    }

    // Expectations from running systemd-repart 262.1 with NoAuto=, ReadOnly=, GrowFileSystem=.
    #[test]
    fn types_know_the_flags_that_the_peer_sets_on_them() {
        for (name, no_auto, read_only, grow_fs) in [
            ("root-arm64", true, true, true),
            ("root-x86-64-verity", true, true, false),
            ("root-x86-64-verity-sig", false, true, false),
            ("usr-x86-64", true, true, true),
            ("usr-arm64-verity", true, true, false),
            ("usr-x86-64-verity-sig", false, true, false),
            ("esp", false, false, false),
            ("xbootldr", true, true, true),
            ("swap", true, false, false),
            ("home", true, true, true),
            ("srv", true, true, true),
            ("var", true, true, true),
            ("tmp", true, true, true),
            ("user-home", false, false, false),
            ("linux-generic", false, false, false),
        ] {
            let kind = designator(by_name(name).unwrap());
            let found = (kind.knows_no_auto(), kind.knows_read_only(), kind.knows_grow_fs());
            assert_eq!(found, (no_auto, read_only, grow_fs), "{name}");
            assert_eq!(kind.is_verity_sig(), name.ends_with("-sig"), "{name}");
        }
    }

    // Expectations from systemd-repart 262.1 with --architecture=arm64.
    #[test]
    fn every_type_of_an_architecture_has_one_of_another() {
        for (from, to) in [
            ("root-x86-64", "root-arm64"),
            ("root-x86", "root-arm64"),
            ("root-x86-64-verity", "root-arm64-verity"),
            ("usr-riscv64", "usr-arm64"),
            ("usr-s390x-verity-sig", "usr-arm64-verity-sig"),
            ("home", "home"),
            ("linux-generic", "linux-generic"),
        ] {
            let (from, to) = (by_name(from).unwrap(), by_name(to).unwrap());
            assert_eq!(for_architecture(from, "arm64"), to);
            assert_eq!(for_architecture(from, "sparc"), from);
        }
        assert_eq!(for_architecture(Uuid::nil(), "arm64"), Uuid::nil());
    }

    #[test]
    fn file_systems_have_usual_places_and_others_none() {
        let places = |name| mount_points(by_name(name).unwrap());
        assert_eq!(places("root-arm64"), ["/"]);
        assert_eq!(places("usr-x86-64"), ["/usr"]);
        assert_eq!(places("esp"), ["/efi", "/boot"]);
        assert_eq!(places("tmp"), ["/var/tmp"]);
        for name in ["root-arm64-verity", "usr-arm64-verity-sig", "swap", "linux-generic"] {
            assert!(places(name).is_empty(), "{name}");
            assert_eq!(purpose(by_name(name).unwrap()), None, "{name}");
        }
        assert_eq!(purpose(by_name("root-arm").unwrap()), Some("root"));
        assert_eq!(default_label(by_name("root-amd64").unwrap()), "root-x86-64");
        assert_eq!(default_label(Uuid::nil()), "linux");
    }
}
