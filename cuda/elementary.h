// ln, sin, cos, 2^y and float16 from operations that every machine rounds alike.
//
// The polynomials are minimax fits of our own (Lawson's iteration in float64, coefficients rounded to float32); reductions are integer
// arithmetic. tests/kernel/test_elementary.py holds the error bounds against float64.
#pragma once

#include "hostdev.h"

AUG_BEGIN

/// ln x for normal x > 0; relative error < 3e-7 (absolute near x = 1: < 1e-7 |x - 1|).
template <class L>
AUG_HOSTDEV typename L::Float ln(typename L::Float x) {
    using Float = typename L::Float;
    using Int = typename L::Int;
    const Int bits = L::bits(x);
    const Int exponent = (bits - 0x3f400000) >> 23;                        // x = 2^exponent m, m in [3/4, 3/2)
    const Float t = L::from_bits(bits - (exponent << 23)) - 1.0f;
    Float p = t * 0.0541116928f - 0.120767151f;
    p = p * t + 0.149944968f;
    p = p * t - 0.168243127f;
    p = p * t + 0.199759129f;
    p = p * t - 0.249932183f;
    p = p * t + 0.333335921f;
    p = p * t - 0.500000664f;
    p = p * t + 1.0f;
    return L::to_float(exponent) * 0.693147181f + p * t;
}

/// Sine and cosine of 2 pi turn / 2^32; absolute error < 2e-7.
template <class L>
AUG_HOSTDEV void sincos_turn(typename L::UInt turn, typename L::Float& sine, typename L::Float& cosine) {
    using Float = typename L::Float;
    using Int = typename L::Int;
    using UInt = typename L::UInt;
    const UInt quadrant = turn + 0x20000000u;                              // its top two bits: nearest quarter turn
    const Int rest = (Int)(turn - (quadrant & 0xC0000000u));               // within an eighth of a turn of it, exactly
    const Float r = L::to_float(rest) * 1.46291808e-9f;                    // 2 pi / 2^32
    const Float z = r * r;
    Float s = z * -0.00019504022f + 0.00833203688f;
    s = s * z - 0.166666507f;
    s = s * z * r + r;
    Float c = z * 2.43799293e-5f - 0.00138866192f;
    c = c * z + 0.0416666167f;
    c = c * z - 0.5f;
    c = c * z + 1.0f;
    const auto odd = (quadrant & 0x40000000u) != 0;
    const Int sign_s = (Int)(quadrant & 0x80000000u);
    const Int sign_c = (Int)((quadrant ^ (quadrant << 1)) & 0x80000000u);
    sine = L::from_bits(L::bits(L::select(odd, c, s)) ^ sign_s);
    cosine = L::from_bits(L::bits(L::select(odd, s, c)) ^ sign_c);
}

/// 2^y for -126 <= y <= 0; relative error < 3e-7; 2^0 is 1.
template <class L>
AUG_HOSTDEV typename L::Float exp2(typename L::Float y) {
    using Float = typename L::Float;
    using Int = typename L::Int;
    const Int whole = L::to_int(y);
    const Float t = y - L::to_float(whole);                                // (-1, 0]
    Float p = t * 0.000109936013f + 0.00127747299f;
    p = p * t + 0.00958221408f;
    p = p * t + 0.0554922973f;
    p = p * t + 0.240224711f;
    p = p * t + 0.693147089f;
    p = p * t + 1.0f;
    return p * L::from_bits((whole + 127) << 23);
}

/// The IEEE binary16 bits of v, rounded to nearest even: in the low half of each lane.
template <class L>
AUG_HOSTDEV typename L::Int half_bits(typename L::Float v) {
    using Int = typename L::Int;
    const Int bits = L::bits(v);
    const Int sign = (bits >> 16) & 0x8000;
    const Int size = bits & 0x7fffffff;
    const Int normal = (size + 0xfff + ((size >> 13) & 1) - 0x38000000) >> 13;
    // below 2^-14 halves are multiples of 2^-24, the last place of numbers in [1/2, 1): adding 1/2 rounds to them
    const Int tiny = L::bits(L::from_bits(L::select_int(size < 0x38800000, size, Int{})) + 0.5f) - 0x3f000000;
    Int half = L::select_int(size < 0x38800000, tiny, normal);
    half = L::select_int(size >= 0x477ff000, Int{} + 0x7c00, half);        // 65520 and above: infinity
    half = L::select_int(size > 0x7f800000, Int{} + 0x7e00, half);         // NaN
    return half | sign;
}

AUG_END
