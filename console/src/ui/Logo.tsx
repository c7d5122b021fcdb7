/** Water on both sides of a gate, less of it behind. */
export function Logo() {
  return (
    <svg class="logo" viewBox="0 0 32 32" aria-hidden="true">
      <path class="water" d="M4 11c3-3 5.5-3 8.5 0M4 16c3-3 5.5-3 8.5 0M4 21c3-3 5.5-3 8.5 0" />
      <path class="water far" d="M19.5 21c3-3 5.5-3 8.5 0" />
      <path class="gate" d="M16 5v22" />
    </svg>
  );
}
