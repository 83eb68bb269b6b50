-- Admits a request if the SHA-256 of its API key is among the keys of its route: run by Envoy for each request.
--
-- The route's metadata has `required` and, per key, HASH = client. Envoy continues with a request when a script fails,
-- so the access rule behind this filter (RBAC) admits only what this one has marked with its client.

local bit = require("bit")
local band, bnot, bxor, ror, rshift, tobit = bit.band, bit.bnot, bit.bxor, bit.ror, bit.rshift, bit.tobit

local K = {}
do -- the fractional parts of the cube roots of the first 64 primes, as SHA-256 defines them
  local count, candidate = 0, 2
  while count < 64 do
    local prime = true
    for divisor = 2, math.floor(math.sqrt(candidate)) do
      if candidate % divisor == 0 then prime = false break end
    end
    if prime then
      count = count + 1
      local root = candidate ^ (1 / 3)
      K[count] = tobit(math.floor((root - math.floor(root)) * 2 ^ 32))
    end
    candidate = candidate + 1
  end
end

local function word(text, at)
  local a, b, c, d = text:byte(at, at + 3)
  return tobit(((a * 256 + b) * 256 + c) * 256 + d)
end

local function sha256(text)
  local bits = #text * 8
  text = text .. "\128" .. ("\0"):rep((55 - #text) % 64) .. ("\0"):rep(4)
  text = text .. string.char(band(rshift(bits, 24), 255), band(rshift(bits, 16), 255), band(rshift(bits, 8), 255), band(bits, 255))
  local H = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}
  for block = 1, #text, 64 do
    local w = {}
    for i = 1, 16 do w[i] = word(text, block + 4 * (i - 1)) end
    for i = 17, 64 do
      local x, y = w[i - 15], w[i - 2]
      local s0 = bxor(ror(x, 7), ror(x, 18), rshift(x, 3))
      local s1 = bxor(ror(y, 17), ror(y, 19), rshift(y, 10))
      w[i] = tobit(w[i - 16] + s0 + w[i - 7] + s1)
    end
    local a, b, c, d, e, f, g, h = unpack(H)
    for i = 1, 64 do
      local s1 = bxor(ror(e, 6), ror(e, 11), ror(e, 25))
      local choice = bxor(band(e, f), band(bnot(e), g))
      local t1 = tobit(tobit(h + s1 + choice) + K[i] + w[i])
      local s0 = bxor(ror(a, 2), ror(a, 13), ror(a, 22))
      local majority = bxor(band(a, b), band(a, c), band(b, c))
      h, g, f, e = g, f, e, tobit(d + t1)
      d, c, b, a = c, b, a, tobit(t1 + s0 + majority)
    end
    for i, v in ipairs({a, b, c, d, e, f, g, h}) do H[i] = tobit(H[i] + v) end
  end
  local hex = {}
  for i = 1, 8 do hex[i] = bit.tohex(H[i]) end
  return table.concat(hex)
end

function envoy_on_request(handle)
  local metadata = handle:metadata()
  if not metadata:get("required") then return end
  local key = (handle:headers():get("authorization") or ""):match("^[Bb]earer%s+([%w%-_]+)%s*$")
  local client = key and #key < 200 and metadata:get(sha256(key))
  if not client then
    local why = key and "This API key is not valid here, or was revoked." or "This endpoint needs an API key."
    handle:respond({[":status"] = "401", ["www-authenticate"] = "Bearer"}, why .. " Send it as `Authorization: Bearer KEY`.")
    return
  end
  handle:streamInfo():dynamicMetadata():set("llmops", "client", client)
end
