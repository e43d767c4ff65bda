// Every word of the page, once, in each language.

const TABLE = {
  skip: ["Skip to the picture", "그림으로 건너뛰기"],
  views: ["Views", "보기"],
  tab_segment: ["Segment", "분할"],
  tab_compare: ["Compare", "비교"],
  tab_inside: ["Look inside", "들여다보기"],
  source: ["Picture", "그림"],
  drop: ["Drop a picture here", "그림을 여기에 놓으세요"],
  drop_more: [
    "or paste one. It goes to this server and nowhere else, and is not stored.",
    "붙여 넣어도 됩니다. 그림은 이 서버로만 전송되며 저장되지 않습니다.",
  ],
  choose: ["Choose a picture", "그림 고르기"],
  photograph: ["Take a photograph", "사진 찍기"],
  examples: ["or start from a drawn one", "또는 그려 둔 그림으로 시작하기"],
  example: ["Drawn picture {n}", "그려 둔 그림 {n}"],
  reduced: [
    "{name}: {w} × {h}, reduced to {rw} × {rh} for speed.",
    "{name}: {w} × {h}. 빠르게 처리하려고 {rw} × {rh}로 줄였습니다.",
  ],
  sized: ["{name}: {w} × {h}", "{name}: {w} × {h}"],
  full_size: ["Use full size", "원래 크기로"],
  opacity: ["Opacity", "불투명도"],
  download: ["Download", "내려받기"],
  mask: ["Mask", "마스크"],
  overlay: ["Overlay", "겹친 그림"],
  network: ["Network", "신경망"],
  about_network: ["{network}, {parameters} parameters", "{network}, 매개변수 {parameters} 개"],
  learnt_from: ["learnt from {data}", "학습 데이터: {data}"],
  crf: ["Refine edges with the dense CRF", "조밀 CRF로 경계 다듬기"],
  proposals: ["Object proposals", "물체 후보"],
  proposals_hint: [
    "Segment windows of the picture one by one, from large to small, and watch the map grow.",
    "그림의 창을 큰 것부터 하나씩 분할하며 지도가 자라는 모습을 봅니다.",
  ],
  how_many: ["How many", "개수"],
  grow: ["Grow the map", "지도 키우기"],
  stop: ["Stop", "멈춤"],
  stopped: ["Stopped after {done} of {total} windows.", "창 {total}개 중 {done}개에서 멈췄습니다."],
  classes: ["Classes", "클래스"],
  all: ["All", "모두"],
  none: ["None", "없음"],
  absent: ["{n} classes not in this picture", "이 그림에 없는 클래스 {n}개"],
  left_network: ["Left", "왼쪽"],
  right_network: ["Right", "오른쪽"],
  differences: ["Show only where they differ", "다른 곳만 보기"],
  divider: ["Divider between the two networks", "두 신경망 사이의 경계선"],
  agreement: ["Agreement", "일치"],
  agree_hint: [
    "of the pixels were given the same class by both.",
    "의 픽셀에 두 신경망이 같은 클래스를 주었습니다.",
  ],
  no_common: [
    "The two networks know no class in common.",
    "두 신경망에 공통된 클래스가 없습니다.",
  ],
  one_network: [
    "This server has one network. Start it with two to compare them: deconvnet serve A B",
    "이 서버에는 신경망이 하나뿐입니다. 비교하려면 둘로 시작하세요: deconvnet serve A B",
  ],
  class_word: ["Class", "클래스"],
  decoder_player: ["Decoder", "디코더"],
  decoder_step: ["Layer of the decoder", "디코더의 층"],
  play: ["Play the decoder", "디코더 재생"],
  pause: ["Pause", "일시 정지"],
  layers: ["Layers", "층"],
  encoder: ["Encoder", "인코더"],
  bottleneck: ["Bottleneck", "병목"],
  decoder: ["Decoder", "디코더"],
  zero: ["0", "0"],
  largest: ["largest", "최댓값"],
  inside_about: [
    "The picture at {w} × {h}; the channels shown add most to “{label}”.",
    "{w} × {h} 크기의 그림. “{label}”에 가장 크게 기여한 채널을 보입니다.",
  ],
  layer_title: ["{layer}, channel {channel}", "{layer}, 채널 {channel}"],
  layer_about: [
    "{kind}: {channels} channels of {w} × {h}; {nonzero} % of the values are not zero.",
    "{kind}: {w} × {h} 채널 {channels}개. 값의 {nonzero} %가 0이 아닙니다.",
  ],
  kind_image: ["picture", "그림"],
  kind_convolution: ["convolution", "합성곱"],
  kind_max_pooling: ["max pooling", "최대 풀링"],
  kind_unpooling: ["unpooling", "언풀링"],
  kind_transposed_convolution: ["transposed convolution", "전치 합성곱"],
  kind_bilinear_upsampling: ["bilinear upsampling", "쌍선형 확대"],
  kind_skip: ["skip connection", "건너뛰기 연결"],
  kind_scores: ["class scores", "클래스 점수"],
  trace: ["Where a pixel comes from", "픽셀이 온 곳"],
  trace_hint: [
    "Point at a pixel, or use the arrow keys, to follow it back through the switches.",
    "픽셀을 가리키거나 화살표 키로 옮기면 스위치를 따라 되짚어 갑니다.",
  ],
  trace_found: [
    "“{label}” at {x}, {y}: {n} steps back to the picture. The glow marks where its value can have come from.",
    "{x}, {y}의 “{label}”: 그림까지 {n}단계. 밝은 곳은 값이 올 수 있었던 자리입니다.",
  ],
  trace_step: ["{layer}: channel {channel}, place {x}, {y}", "{layer}: 채널 {channel}, 자리 {x}, {y}"],
  grid_title: ["Channels of {layer}", "{layer}의 채널"],
  channel_n: ["Channel {n}", "채널 {n}"],
  order: ["Order", "순서"],
  by_number: ["by number", "번호순"],
  by_strength: ["strongest first", "강한 순"],
  earlier: ["Earlier", "이전"],
  later: ["Later", "다음"],
  page_of: ["{from}–{to} of {all}", "{all}개 중 {from}–{to}"],
  foot: [
    "Semantic segmentation with learned deconvolution. No tracking, nothing fetched from elsewhere.",
    "학습된 디컨볼루션으로 하는 의미 분할. 추적이 없고 외부에서 아무것도 불러오지 않습니다.",
  ],
  api: ["API description", "API 설명"],
  version: ["version {v}", "버전 {v}"],
  theme_auto: ["Colours: as the system has it", "색: 시스템 설정"],
  theme_light: ["Colours: light", "색: 밝게"],
  theme_dark: ["Colours: dark", "색: 어둡게"],
  token_title: ["This server asks for a token", "이 서버는 토큰이 필요합니다"],
  token: ["Token", "토큰"],
  token_go: ["Go on", "계속"],
  segmenting: ["Segmenting", "분할하는 중"],
  comparing: ["Comparing", "비교하는 중"],
  looking: ["Looking inside", "들여다보는 중"],
  opening: ["Opening the picture", "그림을 여는 중"],
  growing: ["Window {done} of {total}", "창 {done} / {total}"],
  seconds: ["{n} s", "{n}초"],
  done: ["Done: {what}", "완료: {what}"],
  again: ["Try again", "다시 시도"],
  pixel: ["{x}, {y}: {name}", "{x}, {y}: {name}"],
  sure: ["{percent} % sure", "확신도 {percent} %"],
  stage_label: [
    "Picture with its classes. Arrow keys move a pointer that reads the class.",
    "클래스가 표시된 그림. 화살표 키로 움직여 클래스를 읽습니다.",
  ],
  trace_label: [
    "Picture. Arrow keys move a pointer; its pixel is traced back.",
    "그림. 화살표 키로 픽셀을 옮기면 되짚어 갑니다.",
  ],
  p_unreachable: ["The server does not answer", "서버가 응답하지 않습니다"],
  p_unreachable_more: [
    "Look whether it still runs and whether you are connected, then try again.",
    "서버가 켜져 있는지, 연결되어 있는지 확인한 뒤 다시 시도하세요.",
  ],
  p_picture: ["The picture cannot be used", "그림을 쓸 수 없습니다"],
  p_busy: ["The server is busy", "서버가 바쁩니다"],
  p_time: ["It took too long", "시간이 너무 오래 걸렸습니다"],
  p_token: ["The token is not right", "토큰이 맞지 않습니다"],
  p_gone: ["The picture is no longer kept", "그림이 더 이상 보관되어 있지 않습니다"],
  p_fault: ["The server failed", "서버에 오류가 났습니다"],
};

const CLASSES_KO = {
  background: "배경", ball: "공", cookie: "쿠키", brick: "벽돌", leaf: "잎", star: "별", ring: "고리", fish: "물고기",
  sky: "하늘", building: "건물", pole: "기둥", road: "도로", pavement: "보도", tree: "나무", sign_symbol: "표지판",
  fence: "울타리", car: "자동차", pedestrian: "보행자", bicyclist: "자전거 탄 사람", membrane: "막", cell: "세포",
  aeroplane: "비행기", bicycle: "자전거", bird: "새", boat: "배", bottle: "병", bus: "버스", cat: "고양이",
  chair: "의자", cow: "소", dining_table: "식탁", dog: "개", horse: "말", motorbike: "오토바이", person: "사람",
  potted_plant: "화분", sheep: "양", sofa: "소파", train: "기차", tv_monitor: "텔레비전",
};

const LANGUAGES = ["en", "ko"];
const listeners = new Set();
let language = remembered() ?? (navigator.language?.toLowerCase().startsWith("ko") ? "ko" : "en");

function remembered() {
  const kept = localStorage.getItem("language");
  return LANGUAGES.includes(kept) ? kept : null;
}

/** The words for a key, with {values} filled in. */
export function t(key, values = {}) {
  const words = TABLE[key]?.[LANGUAGES.indexOf(language)];
  if (words === undefined) throw new Error(`no words for ${key}`);
  return words.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** Whether there are words for a key. */
export const known = (key) => key in TABLE;

/** A class's name for people. */
export function className(name) {
  return (language === "ko" && CLASSES_KO[name]) || name.replaceAll("_", " ");
}

/** A number as people of this language write it. */
export const number = (value, digits = 0) =>
  value.toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });

/** A share from 0 to 1 in percent; what is there is never shown as 0. */
export const percent = (share) =>
  share > 0 && share < 0.0005 ? `< ${number(0.1, 1)} %` : `${number(100 * share, 1)} %`;

/** A large number, short: 2.1M, 210만. */
export const short = (value) =>
  value.toLocaleString(language, { notation: "compact", maximumFractionDigits: 1 });

/** Call `listener` now and whenever the language changes. */
export function onLanguage(listener) {
  listeners.add(listener);
  listener();
}

/** Switch to the other language. */
export function switchLanguage() {
  language = language === "en" ? "ko" : "en";
  localStorage.setItem("language", language);
  for (const listener of listeners) listener();
}

/** Put the words into everything of the page that names its key. */
export function translatePage() {
  document.documentElement.lang = language;
  for (const element of document.querySelectorAll("[data-t]"))
    element.textContent = t(element.dataset.t);
  for (const element of document.querySelectorAll("[data-t-label]"))
    element.setAttribute("aria-label", t(element.dataset.tLabel));
}

export const currentLanguage = () => language;
