// Which voxels of an output row need a bounds test: the others are known to lie inside, or outside, the volume.
//
//     xa      outer0      inner0              inner1      outer1      xb
//      | fill    |  tested  |  all taps inside   |  tested  |   fill   |
//
// The bounds are safe, not tight: `tested` may hold a voxel more at each side, and the test there decides exactly as voxel.h does.
#pragma once

#include "warp.h"

AUG_BEGIN

struct RowClip {
    int outer0, inner0, inner1, outer1;
    bool upper[3];   // whether the inner voxels' upper taps along z, y, x exist; where not, their weight is 0
};

/// The x in [x0, x1) whose coordinate base + slope x may lie in [low, high]; inverse is 1 / slope.
AUG_HOSTDEV void narrow(double base, double inverse, double low, double high, int& x0, int& x1) {
    if (low > high) {
        x1 = x0;
        return;
    }
    const double a = (low - base) * inverse, b = (high - base) * inverse;
    const double from = a < b ? a : b, to = a < b ? b : a;
    if (from > x0) x0 = from < x1 ? static_cast<int>(__builtin_ceil(from)) : x1;
    if (to < x1 - 1) x1 = to >= x0 ? static_cast<int>(__builtin_floor(to)) + 1 : x0;
}

/// The clip of output row (z, y) between xa and xb; xa is a multiple of X_BLOCK. inverse: 1 / p.step_x where that is not 0.
AUG_HOSTDEV RowClip clip_row(const Params& p, const double (&inverse)[3], int z, int y, int xa, int xb) {
    RowClip clip{xa, xa, xb, xb, {true, true, true}};
    const Anchor anchor = anchor_of(p, z, y, xa);
    for (int d = 0; d < 3; d++) {
        const int last = p.in_shape[d] - 1;
        const double slope = p.step_x[d];
        if (slope == 0.0) {
            int32_t index;
            float part;
            place<Scalar>(anchor, d, 0.0f, 0.0f, index, part);
            if (index < -1 || index > last) clip.outer1 = clip.outer0;
            // a pair of x neighbours is fetched at once, so x needs its upper tap in any case
            clip.upper[d] = index < last || d == 2;
            const bool inner = index >= 0 && (index < last || (index == last && part == 0.0f && d != 2));
            if (!inner) clip.inner1 = clip.inner0;
            continue;
        }
        // far above the float32 error of a coordinate, which is below 1e-5 of 1 + |slope|
        const double margin = 1e-3 + 1e-4 * (slope < 0 ? -slope : slope);
        const double base = anchor.whole[d] + static_cast<double>(anchor.rest[d]) - slope * xa;
        narrow(base, inverse[d], -1.0 - margin, last + 1.0 + margin, clip.outer0, clip.outer1);
        narrow(base, inverse[d], margin, last - margin, clip.inner0, clip.inner1);
    }
    if (clip.outer1 <= clip.outer0) clip.outer0 = clip.outer1 = xa;
    if (clip.inner1 <= clip.inner0 || clip.outer1 <= clip.outer0) clip.inner0 = clip.inner1 = clip.outer0;
    return clip;
}

AUG_END
