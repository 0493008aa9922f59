// From slices as they are shown to voxels of the array, and back.

/**
 * @param view one of the image's views
 * @param shape of the array, [z, y, x]
 * @returns the voxel [z, y, x] at a row and a column of the slice with this index of the array
 */
export function toVoxel(view, shape, index, row, column) {
  const voxel = [0, 0, 0];
  const [slices, rows, columns] = view.order;
  voxel[slices] = index;
  voxel[rows] = view.flips[1] ? shape[rows] - 1 - row : row;
  voxel[columns] = view.flips[2] ? shape[columns] - 1 - column : column;
  return voxel;
}

/** @returns the slice's index in the array, the row and the column at which a voxel is shown */
export function toSlice(view, shape, voxel) {
  const [slices, rows, columns] = view.order;
  return {
    index: voxel[slices],
    row: view.flips[1] ? shape[rows] - 1 - voxel[rows] : voxel[rows],
    column: view.flips[2] ? shape[columns] - 1 - voxel[columns] : voxel[columns],
  };
}

export const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

/** The rows and columns between which a label map is not 0, [top, bottom, left, right], both ends not included. */
function extent(labels, rows, columns) {
  let [top, bottom, left, right] = [rows, 0, columns, 0];
  for (let row = 0; row < rows; row++) {
    const start = row * columns;
    let first = 0;
    while (first < columns && !labels[start + first]) first += 1;
    if (first === columns) continue;
    let last = columns - 1;
    while (!labels[start + last]) last -= 1;
    top = Math.min(top, row);
    bottom = row + 1;
    left = Math.min(left, first);
    right = Math.max(right, last + 1);
  }
  return [top, bottom, left, right];
}

/** Outlines of the regions of a label map, by object, as paths in columns and rows that run between pixels. */
export function outlines(labels, rows, columns) {
  const paths = new Map();
  const of = (id) => {
    if (!paths.has(id)) paths.set(id, new Path2D());
    return paths.get(id);
  };
  const at = (row, column) =>
    row < 0 || column < 0 || row >= rows || column >= columns ? 0 : labels[row * columns + column];
  // runs of edges become one line each
  const trace = (start, end, from, to, label, line) => {
    for (let i = start; i <= end; i++) {
      for (const side of [-1, 0]) {
        let begun = -1;
        let id = 0;
        for (let j = from; j <= to; j++) {
          const own = j < to ? label(i + side, j) : 0;
          const edge = own !== 0 && label(i - 1 - side, j) !== own;
          if (begun >= 0 && (!edge || own !== id)) {
            line(of(id), i, begun, j);
            begun = -1;
          }
          if (edge && begun < 0) [begun, id] = [j, own];
        }
      }
    }
  };
  const [top, bottom, left, right] = extent(labels, rows, columns);
  trace(top, bottom, left, right, at, (path, row, begun, end) => {
    path.moveTo(begun, row);
    path.lineTo(end, row);
  });
  trace(left, right, top, bottom, (column, row) => at(row, column), (path, column, begun, end) => {
    path.moveTo(column, begun);
    path.lineTo(column, end);
  });
  return paths;
}
