// Gaussian noise: v + std n.
#pragma once

#include "../program.h"

AUG_BEGIN
namespace steps {

struct noise : Pointwise {
    AUG_VALUES(std)
    static constexpr int NORMALS = 1;

    template <class L>
    static AUG_HOSTDEV typename L::Float apply(const float* v, int, typename L::Float value, const Here<L>& here) {
        return value + here.normal[0] * v[std];
    }
};

}  // namespace steps
AUG_END
