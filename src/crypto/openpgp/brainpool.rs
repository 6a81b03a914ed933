//! ECDSA over the Brainpool curves (RFC 5639), which the OpenPGP library knows by name only.
//!
//! Verification works on public numbers, so plain affine arithmetic is enough: one signature costs
//! some milliseconds.

use num_bigint_dig::{BigUint, ModInverse as _};
use pgp::crypto::ecc_curve::ECCCurve;

/// y² = x³ + ax + b over p, with a base point of order n.
struct Curve {
    p: BigUint,
    a: BigUint,
    b: BigUint,
    base: Point,
    n: BigUint,
    /// Length of a coordinate in bytes.
    size: usize,
}

/// Affine; none is the point at infinity.
type Point = Option<(BigUint, BigUint)>;

/// True where (r, s) is a signature of the hash by the point, which is in SEC 1 form without
/// compression. Wrong curves, points that are not on theirs, and numbers out of range are false.
pub(super) fn verify(curve: &ECCCurve, point: &[u8], hash: &[u8], r: &[u8], s: &[u8]) -> bool {
    curve_of(curve).and_then(|curve| verify_on(&curve, point, hash, r, s)).unwrap_or(false)
}

fn verify_on(curve: &Curve, point: &[u8], hash: &[u8], r: &[u8], s: &[u8]) -> Option<bool> {
    let (form, point) = point.split_first()?;
    if *form != 4 || point.len() != 2 * curve.size || r.len().max(s.len()) > curve.size {
        return None;
    }
    let (x, y) = point.split_at_checked(curve.size)?;
    let (x, y) = (BigUint::from_bytes_be(x), BigUint::from_bytes_be(y));
    if x >= curve.p || y >= curve.p || !curve.contains(&x, &y) {
        return None;
    }
    let (r, s) = (BigUint::from_bytes_be(r), BigUint::from_bytes_be(s));
    let zero = BigUint::from(0u8);
    if r == zero || s == zero || r >= curve.n || s >= curve.n {
        return None;
    }
    // The sizes are whole bytes, so the leftmost bits of the hash are its leftmost bytes.
    let e = BigUint::from_bytes_be(hash.get(..hash.len().min(curve.size))?);
    let w = inverse(&s, &curve.n)?;
    let u1 = e * &w % &curve.n;
    let u2 = &r * w % &curve.n;
    let sum = curve.add(&curve.multiply(&curve.base, &u1), &curve.multiply(&Some((x, y)), &u2));
    Some(sum?.0 % &curve.n == r)
}

fn inverse(number: &BigUint, modulus: &BigUint) -> Option<BigUint> {
    number.mod_inverse(modulus)?.to_biguint()
}

impl Curve {
    fn contains(&self, x: &BigUint, y: &BigUint) -> bool {
        (y * y) % &self.p == ((x * x + &self.a) * x + &self.b) % &self.p
    }

    /// a - b, both below p.
    fn minus(&self, a: &BigUint, b: &BigUint) -> BigUint {
        (a + &self.p - b) % &self.p
    }

    fn add(&self, left: &Point, right: &Point) -> Point {
        let (Some((x1, y1)), Some((x2, y2))) = (left, right) else {
            return left.clone().or_else(|| right.clone());
        };
        let (rise, run) = if x1 != x2 {
            (self.minus(y2, y1), self.minus(x2, x1))
        } else if y1 == y2 && *y1 != BigUint::from(0u8) {
            (BigUint::from(3u8) * x1 * x1 + &self.a, BigUint::from(2u8) * y1 % &self.p)
        } else {
            return None;
        };
        let slope = rise * inverse(&run, &self.p)? % &self.p;
        let x = self.minus(&(&slope * &slope % &self.p), &((x1 + x2) % &self.p));
        let y = self.minus(&(slope * self.minus(x1, &x) % &self.p), y1);
        Some((x, y))
    }

    fn multiply(&self, point: &Point, factor: &BigUint) -> Point {
        let mut sum = None;
        for byte in factor.to_bytes_be() {
            for bit in (0..8).rev() {
                sum = self.add(&sum, &sum);
                if byte >> bit & 1 == 1 {
                    sum = self.add(&sum, point);
                }
            }
        }
        sum
    }
}

fn curve_of(curve: &ECCCurve) -> Option<Curve> {
    // RFC 5639 section 3: p, a, b, x, y, n.
    let (size, numbers) = match curve {
        ECCCurve::BrainpoolP256r1 => (
            32,
            [
                "A9FB57DBA1EEA9BC3E660A909D838D726E3BF623D52620282013481D1F6E5377",
                "7D5A0975FC2C3057EEF67530417AFFE7FB8055C126DC5C6CE94A4B44F330B5D9",
                "26DC5C6CE94A4B44F330B5D9BBD77CBF958416295CF7E1CE6BCCDC18FF8C07B6",
                "8BD2AEB9CB7E57CB2C4B482FFC81B7AFB9DE27E1E3BD23C23A4453BD9ACE3262",
                "547EF835C3DAC4FD97F8461A14611DC9C27745132DED8E545C1D54C72F046997",
                "A9FB57DBA1EEA9BC3E660A909D838D718C397AA3B561A6F7901E0E82974856A7",
            ],
        ),
        ECCCurve::BrainpoolP384r1 => (
            48,
            [
                "8CB91E82A3386D280F5D6F7E50E641DF152F7109ED5456B412B1DA197FB71123\
                 ACD3A729901D1A71874700133107EC53",
                "7BC382C63D8C150C3C72080ACE05AFA0C2BEA28E4FB22787139165EFBA91F90F\
                 8AA5814A503AD4EB04A8C7DD22CE2826",
                "04A8C7DD22CE28268B39B55416F0447C2FB77DE107DCD2A62E880EA53EEB62D5\
                 7CB4390295DBC9943AB78696FA504C11",
                "1D1C64F068CF45FFA2A63A81B7C13F6B8847A3E77EF14FE3DB7FCAFE0CBD10E8\
                 E826E03436D646AAEF87B2E247D4AF1E",
                "8ABE1D7520F9C2A45CB1EB8E95CFD55262B70B29FEEC5864E19C054FF9912928\
                 0E4646217791811142820341263C5315",
                "8CB91E82A3386D280F5D6F7E50E641DF152F7109ED5456B31F166E6CAC0425A7\
                 CF3AB6AF6B7FC3103B883202E9046565",
            ],
        ),
        ECCCurve::BrainpoolP512r1 => (
            64,
            [
                "AADD9DB8DBE9C48B3FD4E6AE33C9FC07CB308DB3B3C9D20ED6639CCA70330871\
                 7D4D9B009BC66842AECDA12AE6A380E62881FF2F2D82C68528AA6056583A48F3",
                "7830A3318B603B89E2327145AC234CC594CBDD8D3DF91610A83441CAEA9863BC\
                 2DED5D5AA8253AA10A2EF1C98B9AC8B57F1117A72BF2C7B9E7C1AC4D77FC94CA",
                "3DF91610A83441CAEA9863BC2DED5D5AA8253AA10A2EF1C98B9AC8B57F1117A7\
                 2BF2C7B9E7C1AC4D77FC94CADC083E67984050B75EBAE5DD2809BD638016F723",
                "81AEE4BDD82ED9645A21322E9C4C6A9385ED9F70B5D916C1B43B62EEF4D0098E\
                 FF3B1F78E2D0D48D50D1687B93B97D5F7C6D5047406A5E688B352209BCB9F822",
                "7DDE385D566332ECC0EABFA9CF7822FDF209F70024A57B1AA000C55B881F8111\
                 B2DCDE494A5F485E5BCA4BD88A2763AED1CA2B2FA8F0540678CD1E0F3AD80892",
                "AADD9DB8DBE9C48B3FD4E6AE33C9FC07CB308DB3B3C9D20ED6639CCA70330870\
                 553E5C414CA92619418661197FAC10471DB1D381085DDADDB58796829CA90069",
            ],
        ),
        _ => return None,
    };
    let [p, a, b, x, y, n] = numbers.map(|text| BigUint::parse_bytes(text.as_bytes(), 16));
    Some(Curve { p: p?, a: a?, b: b?, base: Some((x?, y?)), n: n?, size })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_points_are_on_their_curves_and_have_their_order() {
        for name in
            [ECCCurve::BrainpoolP256r1, ECCCurve::BrainpoolP384r1, ECCCurve::BrainpoolP512r1]
        {
            let curve = curve_of(&name).unwrap();
            let (x, y) = curve.base.clone().unwrap();
            assert!(curve.contains(&x, &y), "{name:?}");
            assert_eq!(curve.multiply(&curve.base, &curve.n), None, "{name:?}");
            assert_eq!(curve.n.bits(), curve.size * 8);
        }
        assert!(curve_of(&ECCCurve::P256).is_none());
    }
}
