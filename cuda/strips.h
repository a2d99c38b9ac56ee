// How a patch falls into strips: whole rows of one plane, at most 2048 voxels, contiguous in memory. A function of the patch's shape alone,
// because sums over a patch are made strip by strip and must have the same bits everywhere.
#pragma once

#include "hostdev.h"

AUG_BEGIN

constexpr int STRIP = 2048;
constexpr int SEGMENT = 1024;   // longest stretch of a row that is worked on at once; a longer row is cut, and each segment is a strip

struct Strip {
    int z, y0, y1, xa, xb;
    int64_t first;   // index in the patch, C order
    int count;       // voxels
    AUG_HOSTDEV int width() const { return xb - xa; }
};

struct Strips {
    int depth, height, width, rows, down, across;
    explicit AUG_HOSTDEV Strips(const int32_t (&shape)[3]) : depth(shape[0]), height(shape[1]), width(shape[2]) {
        rows = width <= SEGMENT ? STRIP / width : 1;
        down = (height + rows - 1) / rows;
        across = (width + SEGMENT - 1) / SEGMENT;
    }
    AUG_HOSTDEV int per_plane() const { return down * across; }
    AUG_HOSTDEV int64_t count() const { return static_cast<int64_t>(depth) * per_plane(); }
    AUG_HOSTDEV Strip at(int z, int k) const {
        Strip s{};
        s.z = z;
        s.y0 = k / across * rows;
        s.y1 = s.y0 + rows < height ? s.y0 + rows : height;
        s.xa = k % across * SEGMENT;
        s.xb = s.xa + SEGMENT < width ? s.xa + SEGMENT : width;
        s.first = (static_cast<int64_t>(z) * height + s.y0) * width + s.xa;
        s.count = (s.y1 - s.y0) * (s.xb - s.xa);
        return s;
    }
};

AUG_END
